"""`fairlane routing show` and `publish` over real servers: a plan as a job would get it now, by the fleet's version."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from click.testing import CliRunner, Result

from tests.servers import Valkey
from worker.cli.main import cli
from worker.embedded.twin import Twin
from worker.health.rules import CoolDown, Outcome
from worker.health.store import HealthStore
from worker.job_run import utc_now
from worker.ledger.ledger import Ledger
from worker.ledger.records import RoutingWorker
from worker.routing_load import load

Run = Callable[..., Result]
CLOUD = "http://127.0.0.1:2"
SIZE = "context_tokens: 9000, max_output_tokens: 100"
ROUTING = f"""
providers:
  local: {{dialect: openai, base_url: "http://127.0.0.1:1"}}
  cloud: {{dialect: anthropic, base_url: "{CLOUD}"}}
  keyless: {{dialect: openai, base_url: "http://127.0.0.1:3", key_env: NO_SUCH_KEY}}
aliases:
  small:
    - {{provider: local, model: m, {SIZE}, weight: 3, price: {{input: 1, output: 5}}}}
    - {{provider: cloud, model: c, {SIZE}, weight: 1, price: {{input: 2, output: 5}}}}
    - {{provider: keyless, model: k, {SIZE}, price: {{input: 1, output: 1}}}}
    - {{provider: local, model: dear, {SIZE}, price: {{input: 900, output: 1}}}}
  large:
    - {{provider: cloud, model: l, {SIZE}, price: {{input: 9, output: 9}}}}
tasks:
  ask: {{default: small, fallback: large, max_cost_usd: 0.5, max_latency_ms: 3000, max_output_tokens: 50}}
  write: {{default: large}}
tiers: {{pro: {{deny: large, daily_budget_usd: 5}}, all: {{}}}}
tenants: {{acme: pro, globex: all}}
"""
OWN_KEY = "acme: {tier: pro, keys: {keyless: {key_env: ACME_KEY}}}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "routing.yaml"
    found.write_text(ROUTING)
    return found


@pytest.fixture
def ledger_at(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).migrate()
    return url


@pytest.fixture
def twin_url() -> Iterator[str]:
    """The twin, as a process of its own."""
    command = [sys.executable, "-m", "worker.embedded.twin", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as twin:
        assert twin.stdout
        yield json.loads(twin.stdout.readline())["url"]
        twin.terminate()


@pytest.fixture
def run(valkey: Valkey, namespace: str, path: Path, ledger_at: str, tmp_path: Path) -> Run:
    env = {
        "FAIRLANE_BROKER_URL": valkey.broker_url,
        "FAIRLANE_NAMESPACE": namespace,
        "FAIRLANE_ROUTING": str(path),
        "FAIRLANE_LEDGER_URL": ledger_at,
        "FAIRLANE_HOME": str(tmp_path / "home"),
    }
    return lambda *words, **changes: CliRunner().invoke(cli, list(words), env=env | changes)


def shown(run: Run, *words: str, **changes: str) -> dict[str, Any]:
    result = run("routing", "show", "--tenant", "acme", "--task", "ask", "--json", *words, **changes)
    told: dict[str, Any] = json.loads(result.stdout)
    return told | {"exit_code": result.exit_code}


def reasons(told: dict[str, Any]) -> dict[str, str]:
    return {one["deployment"]: one["reason"] for one in told["left_out"]}


def test_a_plan_has_its_calls_with_costs_and_every_other_deployment_with_its_reason(run: Run) -> None:
    told = shown(run)
    costs = {
        one["deployment"]: (one["first_share"], float(one["cost_low_usd"]), float(one["cost_high_usd"]))
        for one in told["calls"]
    }
    assert costs == {"local/m": (0.75, 0.001, 0.00125), "cloud/c": (0.25, 0.002, 0.00275)}
    assert reasons(told) == {
        "keyless/k": "no NO_SUCH_KEY",
        "local/dear": "too dear: up to 0.90005 USD, the task's limit leaves 0.5",
        "cloud/l": "tier 'pro' may not use large",
    }
    assert (told["exit_code"], told["health_known"], told["max_output_tokens"]) == (0, True, 50)
    assert {name: str(value) for name, value in told["limits"].items()} == {
        "max_latency_ms": "3000",
        "max_cost_usd": "0.5",
        "daily_budget_usd": "5",
        "concurrency": "20",
        "weight": "1",
    }


def test_a_call_with_the_tenants_own_key_costs_nothing_of_ours_and_says_so(run: Run, path: Path) -> None:
    own = "tenants: {acme: {tier: pro, keys: {cloud: {key_env: THEIRS}}}, globex: all}"
    path.write_text(ROUTING.replace("tenants: {acme: pro, globex: all}", own))
    costs = {
        one["deployment"]: (one["own_key"], float(one["cost_low_usd"]), float(one["cost_high_usd"]))
        for one in shown(run, THEIRS="sk-theirs")["calls"]
    }
    assert costs == {"local/m": (False, 0.001, 0.00125), "cloud/c": (True, 0, 0)}
    said = run("routing", "show", "--tenant", "acme", "--task", "ask", THEIRS="sk-theirs").stdout
    assert [line.endswith("with its own key") for line in said.splitlines() if "cloud/c" in line] == [True]


def test_the_strategy_of_an_alias_that_is_not_by_weight_is_said(run: Run, path: Path) -> None:
    large = f"{{provider: cloud, model: l, {SIZE}, price: {{input: 9, output: 9}}}}"
    old = f"  large:\n    - {large}\n"
    assert old in ROUTING
    path.write_text(ROUTING.replace(old, f"  large: {{strategy: fastest, deployments: [{large}]}}\n"))
    said = run("routing", "show", "--tenant", "globex", "--task", "ask").stdout
    assert "task ask: small, large (fastest)." in said


@pytest.fixture
def at_local_url(path: Path) -> None:
    path.write_text(ROUTING.replace('base_url: "http://127.0.0.1:1"', "base_url_env: FAIRLANE_LOCAL_URL"))


@pytest.mark.usefixtures("at_local_url")
async def test_what_the_local_server_does_not_have_is_left_out(run: Run) -> None:
    async with Twin() as twin:
        told = await asyncio.to_thread(lambda: shown(run, FAIRLANE_LOCAL_URL=twin.url))
    assert reasons(told)["local/m"] == "the server at FAIRLANE_LOCAL_URL has no model m"
    assert [one["deployment"] for one in told["calls"]] == ["cloud/c"]


def test_the_size_of_the_job_decides_what_fits(run: Run) -> None:
    assert reasons(shown(run, "--input-tokens", "9000"))["local/m"].startswith("context too long")
    told = shown(run, "--input-tokens", "8000", "--max-output-tokens", "20")
    assert [float(one["cost_high_usd"]) for one in told["calls"] if one["deployment"] == "local/m"] == [
        0.0081
    ]


def test_the_order_is_the_jobs_own(run: Run) -> None:
    orders = {
        shown(run, "--job-id", f"00000000-0000-4000-8000-{number:012}")["calls"][0]["deployment"]
        for number in range(8)
    }
    assert orders == {"local/m", "cloud/c"}


def test_what_takes_no_calls_now_is_left_out_with_its_health(
    run: Run, valkey: Valkey, namespace: str, path: Path
) -> None:
    async def act() -> None:
        known = {one.model: one for one in load(path).deployments().values()}
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            health = HealthStore(client, namespace=namespace)
            cool = Outcome(cool=CoolDown(30.0, "rate_limited", "429"))
            begun = await health.begin(known["m"], attempt="a", forced=False)
            await health.finish(known["m"], cool, attempt="a", begun=begun, jitter=0.5)

    asyncio.run(act())
    told = shown(run)
    assert [one["deployment"] for one in told["calls"]] == ["cloud/c"]
    assert reasons(told)["local/m"] == "cooling down for 30 s: 429"
    assert run("pause", "--all", "--reason", "incident 17").exit_code == 0
    told = shown(run)
    assert (told["calls"], reasons(told)["cloud/c"]) == ([], "paused (incident 17)")
    assert told["wait_s"] == 1.0


def test_without_the_broker_the_plan_says_what_it_does_not_know(run: Run) -> None:
    away = {"FAIRLANE_BROKER_URL": "redis+socket:///nowhere/broker.sock"}
    assert shown(run, **away)["health_known"] is False
    said = run("routing", "show", "--tenant", "acme", "--task", "ask", **away).stdout
    assert "The broker does not answer: how the deployments stand now is not in this plan." in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--tenant", "acma"), "unknown_tenant"),
        (("--task", "aks"), "unknown_task"),
        (("--task", "write"), "policy_denied"),
        (("--input-tokens", "90000"), "context_too_long"),
    ],
)
def test_a_job_that_would_end_says_how_and_exits_1(run: Run, words: tuple[str, ...], code: str) -> None:
    told = shown(run, *words)
    assert (told["exit_code"], told["error"]["code"], told["calls"]) == (1, code, [])
    assert (
        f"The job would end as {code}"
        in run("routing", "show", "--tenant", "acme", "--task", "ask", *words).stdout
    )


def test_a_name_that_no_job_can_have_is_a_wrong_command_line(run: Run) -> None:
    result = run("routing", "show", "--tenant", "a cme", "--task", "ask")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no job can name such a tenant" in result.stderr


def test_the_plan_is_the_fleets_version_and_a_file_is_planned_by_when_it_is_named(
    run: Run, path: Path
) -> None:
    assert (
        f"of {path}; the fleet's is not known: no worker has begun with one yet"
        in run("routing", "show", "--tenant", "acme", "--task", "ask").stdout
    )
    published = json.loads(run("routing", "publish", "--json").stdout)
    assert (published["published"], published["number"]) == (True, 1)
    path.write_text(ROUTING.replace("weight: 3", "weight: 1"))
    told = shown(run)
    assert (told["version"], told["number"]) == (published["version"], 1)
    assert {one["first_share"] for one in told["calls"]} == {0.75, 0.25}
    told = shown(run, "--file", str(path))
    assert (told["number"], {one["first_share"] for one in told["calls"]}) == (None, {0.5})
    assert json.loads(run("routing", "publish", str(path), "--json").stdout)["number"] == 2
    assert json.loads(run("routing", "publish", str(path), "--json").stdout)["number"] == 2, (
        "in force already"
    )


def test_a_wrong_file_is_not_published(run: Run, path: Path) -> None:
    path.write_text(ROUTING.replace(CLOUD, "http://169.254.169.254"))
    result = run("routing", "publish")
    assert result.exit_code == 3
    assert "link-local address" in result.stdout
    path.write_text(ROUTING)
    assert shown(run)["number"] is None


def test_doctor_says_which_workers_are_behind_and_which_have_refused_a_file(
    run: Run, ledger_at: str, namespace: str
) -> None:
    def said() -> dict[str, tuple[str, str]]:
        checks = json.loads(run("doctor", "routing", "--json").stdout)["checks"]
        return {one["name"]: (one["state"], one["said"]) for one in checks}

    assert said()["routing fleet"] == ("note", "no worker has begun with one yet")
    version = json.loads(run("routing", "publish", "--json").stdout)["version"]

    async def seen(*workers: RoutingWorker) -> None:
        ledger = Ledger(ledger_at)
        for worker in workers:
            await ledger.routing_seen(namespace, worker)
        await ledger.close()

    asyncio.run(
        seen(RoutingWorker("w1", version, None, utc_now()), RoutingWorker("w2", version, None, utc_now()))
    )
    state, told = said()["routing fleet"]
    assert (state, told.endswith("; 2 of 2 workers have it")) == ("ok", True)
    asyncio.run(seen(RoutingWorker("w2", "0123456789ab", "routing.yaml:3:5: a mistake", utc_now())))
    state, told = said()["routing fleet"]
    assert (state, told.endswith("; w2 still has 0123456789ab; 1 of 2 workers have it")) == ("bad", True)
    assert said()["routing w2"] == ("bad", "it has refused a routing.yaml: routing.yaml:3:5: a mistake")
