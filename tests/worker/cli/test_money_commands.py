"""`fairlane budget show` and `fairlane usage --csv`."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis.asyncio
from click.testing import CliRunner, Result

from producer_sdk.contract import Job
from producer_sdk.contract.envelope import pack
from producer_sdk.lanes import Lanes
from tests.servers import Valkey
from tests.worker.money_desk import Desk, open_desk
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
    return lambda *words, **more: CliRunner().invoke(cli, list(words), env=env | more)


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


GOOD = "attempt_id,cost_usd,input_tokens,model\n018f3a5e-7c00-7000-8000-000000000001,0.0012,17,gpt\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the head line has no attempt_id"),
        ("attempt_id\nx\n", "the head line has no cost_usd"),
        (GOOD.replace("018f", "zzzz"), "export.csv:2: attempt_id is not a UUID"),
        (GOOD.replace("0.0012", "nan"), "export.csv:2: cost_usd must be a number from 0"),
        (GOOD.replace("0.0012", "-1"), "export.csv:2: cost_usd must be a number from 0"),
        (GOOD.replace("0.0012", "a lot"), "export.csv:2: cost_usd must be a number from 0"),
        (GOOD.replace("17", "1.5"), "export.csv:2: input_tokens must be a whole number"),
        (GOOD + GOOD.splitlines()[1] + "\n", "export.csv:3: attempt_id stands twice"),
    ],
)
def test_a_wrong_export_is_named_by_its_line_and_changes_nothing(
    run: Run, tmp_path: Path, text: str, sentence: str
) -> None:
    export = tmp_path / "export.csv"
    export.write_text(text)
    refused = run("usage", "reconcile", str(export))
    assert refused.exit_code == 3
    assert sentence in refused.stderr


def test_an_export_is_read_and_says_what_became_of_each_call(run: Run, tmp_path: Path) -> None:
    Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}").migrate()
    export = tmp_path / "export.csv"
    export.write_text(GOOD)
    assert run("usage", "reconcile").stdout == "No call is uncertain.\n"
    assert run("usage", "reconcile", str(export), "--dry-run").stdout == "1 calls read, nothing changed\n"
    said = json.loads(run("usage", "reconcile", str(export), "--json").stdout)
    assert said == {"lines": 1, "dry_run": False, "unknown": 1}
    assert run("usage", "reconcile", str(tmp_path / "nowhere.csv")).exit_code == 3


def test_prices_are_shown_with_their_source(run: Run) -> None:
    said = json.loads(run("usage", "--prices", "--json").stdout)
    assert said["left_out"] == {}
    rates = {
        "service_tier": "default",
        "since": None,
        "from_utc": "00:00",
        "input_above": 0,
        "input": "1",
        "cache_read": "1",
        "cache_write": "1",
        "cache_write_long": None,
        "output": "1",
        "reasoning": "1",
        "derived": ["cache_read", "cache_write", "reasoning"],
    }
    assert said["prices"]["local/m"] | {"id": ""} == {
        "id": "",
        "source": "routing.yaml",
        "asks": "default",
        "rates": [rates],
    }
    assert "USD per million tokens" in run("usage", "--prices").stdout


def test_every_tier_and_size_of_a_price_is_shown(run: Run, tmp_path: Path) -> None:
    routing, text = tmp_path / "routing.yaml", ROUTING
    flex = "{input: 0.5, output: 0.5, above: {200000: {input: 2, output: 3}}}"
    price = f"price: {{input: 1, output: 1, service_tiers: {{flex: {flex}}}}}"
    assert "price: {input: 1, output: 1}" in text
    routing.write_text(text.replace("price: {input: 1, output: 1}", price))
    [card] = json.loads(run("usage", "--prices", "--json").stdout)["prices"].values()
    assert [
        (one["service_tier"], one["input_above"], one["input"], one["output"]) for one in card["rates"]
    ] == [
        ("default", 0, "1", "1"),
        ("flex", 0, "0.5", "0.5"),
        ("flex", 200_000, "2", "3"),
    ]
    said = run("usage", "--prices").stdout
    assert "0.5*" in said
    assert "* nobody states it" in said


@pytest.fixture
def books(valkey: Valkey, namespace: str, tmp_path: Path) -> None:
    """Built, as a worker does it before it admits anything."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).migrate()

    async def build() -> None:
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            desk = open_desk(client, namespace, url)
            await desk.books.rebuild()
            await desk.close()

    asyncio.run(build())


def limit_of(run: Run, window: str) -> str:
    said = json.loads(run("budget", "show", "--json").stdout)
    return next(one["limit_usd"] for one in said["windows"] if one["window"].startswith(window))


@pytest.mark.usefixtures("books")
def test_a_limit_is_set_added_to_and_taken_back_while_the_fleet_runs(run: Run) -> None:
    assert run("budget", "set", "7.5", "--tenant", "acme").stdout == "t:acme:d: the limit is 7.5 USD\n"
    assert limit_of(run, "t:acme:d:") == "7.5"
    assert (
        "0.25 USD more" in run("budget", "top-up", "0.25", "--tenant", "acme", "--reason", "order 17").stdout
    )
    assert limit_of(run, "t:acme:d:") == "7.75"
    assert run("budget", "set", "default", "--tenant", "acme").exit_code == 0
    assert limit_of(run, "t:acme:d:") == "5.25"
    assert limit_of(run, "t:globex:d:") == "5"
    for words in (
        ("--provider", "local"),
        ("--fleet", "--monthly"),
        ("--tenant", "acme", "--feature", "rag"),
    ):
        assert run("budget", "set", "0", *words).exit_code == 0, words
    assert limit_of(run, "p:local:d:") == limit_of(run, "fleet:m:") == limit_of(run, "f:acme:rag:d:") == "0"


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("set", "5"), 2),
        (("set", "5", "--tenant", "acme", "--fleet"), 2),
        (("set", "5", "--feature", "rag"), 2),
        (("set", "-1", "--tenant", "acme"), 2),
        (("set", "nan", "--tenant", "acme"), 2),
        (("set", "1e30", "--tenant", "acme"), 2),
        (("top-up", "0", "--tenant", "acme"), 2),
        (("top-up", "default", "--tenant", "acme"), 2),
        (("set", "5", "--tenant", "nobody"), 3),
        (("set", "5", "--provider", "nobody"), 3),
        (("set", "5", "--fleet"), 3),  # routing.yaml has only a month's
    ],
)
def test_a_change_that_names_no_window_or_no_amount_is_refused(
    run: Run, words: tuple[str, ...], code: int
) -> None:
    assert run("budget", *words).exit_code == code


def test_a_change_that_the_broker_was_not_told_is_written_down_once_and_says_so(
    run: Run, valkey: Valkey, namespace: str, tmp_path: Path
) -> None:
    ledger_url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(ledger_url).migrate()
    away = {"FAIRLANE_BROKER_URL": "redis+socket:///nowhere/broker.sock"}

    async def with_desk(act: Callable[[Desk], Awaitable[None]]) -> None:
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            desk = open_desk(client, namespace, ledger_url)
            await act(desk)
            await desk.close()

    asyncio.run(with_desk(lambda desk: desk.books.rebuild()))
    told = run("budget", "top-up", "0.25", "--tenant", "acme", **away)
    assert told.exit_code == 4
    assert "do not repeat it" in told.stderr
    assert limit_of(run, "t:acme:d:") == "5"
    asyncio.run(with_desk(lambda desk: desk.reaper.tick()))
    assert limit_of(run, "t:acme:d:") == "5.25"
    assert run("budget", "show", **away).exit_code == 4


async def test_a_raised_limit_of_everybodys_lets_every_parked_job_go(
    run: Run, client: redis.asyncio.Redis, namespace: str, tmp_path: Path
) -> None:
    Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}").migrate()
    lanes = Lanes(client, namespace=namespace)
    jobs = [Job(tenant=tenant, task="ask", messages="Where?") for tenant in ("acme", "globex")]
    await lanes.put([pack(job) for job in jobs], ttl_s=60)
    for held in (await lanes.take(2, worker="w", lease_ms=60_000, op_id="1")).deliveries:
        await lanes.hand_back(held.tag, delay_ms=60_000)
    assert (await lanes.counts()).delayed == 2
    for words in (("--fleet", "--monthly"), ("--provider", "local")):
        ran = await asyncio.to_thread(lambda words=words: run("budget", "top-up", "5", *words))
        assert ran.exit_code == 0, ran.output
    assert len((await lanes.take(2, worker="w", lease_ms=60_000, op_id="2")).deliveries) == 2
