"""`fairlane budget show` and `fairlane usage --csv`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.servers import Valkey
from worker.cli.main import cli
from worker.cli.usage import _as_text
from worker.ledger.ledger import Ledger

Run = Callable[..., Result]
ROUTING = """
providers:
  local: {dialect: openai, base_url: "http://127.0.0.1:1", daily_budget_usd: 100}
aliases:
  small: [{provider: local, model: m, context_tokens: 1000, max_output_tokens: 100, price: {input: 1, output: 1}}]
tasks: {ask: {default: small}}
tiers:
  pro: {daily_budget_usd: 5, monthly_budget_usd: 50, run_budget_usd: 1, features: {rag: {daily_budget_usd: 2}}}
tenants: {acme: pro, globex: pro}
fleet: {monthly_budget_usd: 1000}
"""


@pytest.fixture
def run(valkey: Valkey, namespace: str, tmp_path: Path) -> Run:
    (tmp_path / "routing.yaml").write_text(ROUTING)
    env = {
        "FAIRLANE_BROKER_URL": valkey.broker_url,
        "FAIRLANE_NAMESPACE": namespace,
        "FAIRLANE_ROUTING": str(tmp_path / "routing.yaml"),
        "FAIRLANE_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite'}",
    }
    return lambda *words: CliRunner().invoke(cli, list(words), env=env)


def test_every_limited_window_is_shown(run: Run) -> None:
    said = json.loads(run("budget", "show", "--json").stdout)
    kinds = [window["window"].partition(":20")[0] for window in said["windows"]]
    a_tenants = ["t:{}:d", "t:{}:m", "f:{}:rag:d"]
    expected = [name.format(tenant) for tenant in ("acme", "globex") for name in a_tenants]
    assert kinds == [*expected, "p:local:d", "fleet:m"]
    assert said["known"] is False
    assert (said["windows"][0]["limit_usd"], said["windows"][0]["left_usd"]) == ("5", "5")


def test_one_tenant_and_its_run_can_be_asked_for(run: Run) -> None:
    said = json.loads(run("budget", "show", "--tenant", "acme", "--run", "r 1", "--json").stdout)
    assert said["windows"][0]["window"] == "r:acme:r%201"
    assert "begins anew" in run("budget", "show", "--tenant", "acme").stdout
    assert run("budget", "show", "--tenant", "nobody").exit_code == 3
    assert run("budget", "show", "--run", "r1").exit_code == 2


def test_usage_as_csv_has_its_head_even_when_nothing_was_used(run: Run, tmp_path: Path) -> None:
    Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}").migrate()
    shown = run("usage", "--by", "tenant", "--by", "run", "--by", "prompt_version", "--csv").stdout
    [head] = csv.reader(io.StringIO(shown))
    assert head[:3] == ["tenant", "run", "prompt_version"]
    assert head[-2:] == ["cost_usd", "saved_usd"]
    assert run("usage", "--csv", "--json").exit_code == 2


@pytest.mark.parametrize(("text", "written"), [("=1+1", "'=1+1"), ("acme", "acme"), (3, 3), ("-x", "'-x")])
def test_no_name_is_a_formula_to_a_spreadsheet(text: object, written: object) -> None:
    assert _as_text(text) == written
