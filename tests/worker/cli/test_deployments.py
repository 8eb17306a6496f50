"""`fairlane deployments`, `pause` and `resume` over a real Valkey."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio
from click.testing import CliRunner, Result

from tests.servers import Valkey
from worker.cli.main import cli
from worker.health.rules import CoolDown, Outcome, Took
from worker.health.store import HealthStore
from worker.ledger.ledger import Ledger
from worker.routing_load import load

Run = Callable[..., Result]
ROUTING = """
providers:
  local: {dialect: openai, base_url: "http://127.0.0.1:1"}
  cloud: {dialect: anthropic, base_url: "http://127.0.0.1:2"}
aliases:
  small:
    - {provider: local, model: m, context_tokens: 1000, max_output_tokens: 100, price: {input: 1, output: 1}}
    - {provider: local, model: n, context_tokens: 1000, max_output_tokens: 100, price: {input: 1, output: 1}}
    - {provider: cloud, model: c, context_tokens: 1000, max_output_tokens: 100, price: {input: 1, output: 1}}
tasks: {ask: {default: small}}
tiers: {pro: {}}
tenants: {acme: pro}
"""


@pytest.fixture
def routing(tmp_path: Path) -> Path:
    path = tmp_path / "routing.yaml"
    path.write_text(ROUTING)
    return path


@pytest.fixture
def ledger_at(tmp_path: Path) -> str:
    """Where no ledger is yet."""
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def run(valkey: Valkey, namespace: str, routing: Path, ledger_at: str) -> Run:
    env = {
        "FAIRLANE_LEDGER_URL": ledger_at,
        "FAIRLANE_BROKER_URL": valkey.broker_url,
        "FAIRLANE_NAMESPACE": namespace,
        "FAIRLANE_ROUTING": str(routing),
    }
    return lambda *words: CliRunner().invoke(cli, list(words), env=env)


def learn(
    valkey: Valkey,
    namespace: str,
    routing: Path,
    took: Took | None = None,
    *,
    whose: str = "",
    **outcomes: tuple[Outcome, int],
) -> None:
    """So many calls of each model ended so."""

    async def act() -> None:
        known = {one.model: one for one in load(routing).deployments().values()}
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            health = HealthStore(client, namespace=namespace)
            for model, (outcome, times) in outcomes.items():
                for number in range(times):
                    call = {"attempt": f"{model}{number}", "whose": whose}
                    begun = await health.begin(known[model], forced=False, **call)
                    await health.finish(known[model], outcome, begun=begun, jitter=0.5, took=took, **call)
                await health.begin(known[model], attempt=f"{model}-open", forced=False)

    asyncio.run(act())


def test_a_tenants_own_keys_have_states_of_their_own(
    run: Run, valkey: Valkey, namespace: str, routing: Path
) -> None:
    routing.write_text(ROUTING.replace("acme: pro", "acme: {tier: pro, keys: {cloud: {key_env: ACME_KEY}}}"))
    refused = Outcome(cool=CoolDown(300.0, "auth", "its key was refused (401)"), whole_provider=True)
    learn(valkey, namespace, routing, whose="acme", c=(refused, 1))
    assert states(run)["cloud/c"] == ("healthy", "")
    [(name, (state, why))] = states(run, "--tenant", "acme").items()
    assert (name, state) == ("cloud/c", "cooling down")
    assert why.endswith("its key was refused (401)")
    unknown = run("deployments", "--tenant", "globex")
    assert unknown.exit_code == 2
    assert "routing.yaml has no tenant 'globex' with keys of its own" in unknown.stderr


def states(run: Run, *words: str) -> dict[str, tuple[str, str]]:
    said = json.loads(run("deployments", "--json", *words).stdout)
    return {one["deployment"]: (one["state"], one["why"]) for one in said["deployments"]}


def test_an_untouched_fleet_is_healthy(run: Run) -> None:
    assert states(run) == dict.fromkeys(("local/m", "local/n", "cloud/c"), ("healthy", ""))


def test_each_deployment_says_its_state_why_and_its_calls(
    run: Run, valkey: Valkey, namespace: str, routing: Path
) -> None:
    limited = Outcome(too_much=True, cool=CoolDown(300.0, "rate_limited", "429"))
    learn(valkey, namespace, routing, m=(limited, 1), n=(Outcome("bad"), 5), c=(Outcome("ok"), 3))
    found = states(run)
    assert found["local/m"][0] == "cooling down"
    assert found["local/m"][1] in ("cooling down for 300 s: 429", "cooling down for 299 s: 429")
    assert found["local/n"][0] == "breaker open"
    assert found["local/n"][1].endswith("s: 5 calls in a row failed")
    assert found["cloud/c"] == ("healthy", "")
    said = {one["deployment"]: one for one in json.loads(run("deployments", "--json").stdout)["deployments"]}
    assert [(one["in_flight"], one["limit"]) for one in said.values()] == [(0, 1), (0, None), (1, None)]
    assert said["local/m"]["until"] > said["local/n"]["until"]
    shown = run("deployments").stdout
    assert "local/n" in shown
    assert "5 calls in a row failed" in shown


def test_each_deployment_says_how_fast_its_last_answers_were(
    run: Run, valkey: Valkey, namespace: str, routing: Path
) -> None:
    learn(valkey, namespace, routing, m=(Outcome("ok"), 3), n=(Outcome("ok"), 1), took=Took(120, 41, 1_000))
    found = {one["deployment"]: one for one in json.loads(run("deployments", "--json").stdout)["deployments"]}
    speeds = [(one["first_token_ms"], one["tokens_per_s"]) for one in found.values()]
    assert speeds == [(120, 40.0), (120, 40.0), (None, None)]
    assert found["local/m"]["measured"].startswith("20")
    assert found["cloud/c"]["measured"] is None
    assert "120 ms" in run("deployments").stdout


def test_a_pause_is_shown_until_it_is_resumed(run: Run) -> None:
    paused = run("pause", "--provider", "local", "--for", "10m", "--reason", "incident 17")
    assert (paused.exit_code, paused.stdout.startswith("provider local: paused until 20")) == (0, True)
    assert states(run) == {
        "local/m": ("paused", "paused (incident 17)"),
        "local/n": ("paused", "paused (incident 17)"),
        "cloud/c": ("healthy", ""),
    }
    assert "fairlane resume --provider local" in run("deployments").stdout
    assert run("pause", "--all").stdout == "every provider: paused until `fairlane resume --all`\n"
    assert {state for state, _why in states(run).values()} == {"paused"}
    assert run("resume", "--all").stdout == "every provider goes on\n"
    assert states(run)["local/m"][0] == "paused", "a provider's own pause stays"
    assert run("resume", "--provider", "local").exit_code == 0
    again = run("resume", "--provider", "local")
    assert (again.exit_code, again.stdout) == (1, "provider local was not paused\n")
    assert states(run)["local/m"][0] == "healthy"


def test_a_resume_lets_jobs_go_when_no_worker_sees_the_pause_any_more(
    run: Run, valkey: Valkey, namespace: str, routing: Path
) -> None:
    deployments = load(routing).deployments()
    assert run("pause", "--all").exit_code == 0

    async def seen() -> list[int]:
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            health = HealthStore(client, namespace=namespace)
            before, _age_s = await health.view(lambda: deployments)
            await asyncio.to_thread(run, "resume", "--all")
            after, _age_s = await health.view(lambda: deployments)
            return [len(before.pauses), len(after.pauses)]

    assert asyncio.run(seen()) == [1, 0]
    assert run("resume", "--all").stdout == "there is no pause of all (--provider NAME ends a single one)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pause",), "--all, or --provider NAME"),
        (("resume",), "--all, or --provider NAME"),
        (("pause", "--all", "--provider", "local"), "--all, or --provider NAME"),
        (("pause", "--provider", "locla"), "routing.yaml has no provider 'locla': it has cloud, local"),
        (("pause", "--all", "--for", "a while"), "write a whole number and s, m, h or d"),
        (("pause", "--all", "--reason", "x" * 201), "at most 200 printable characters"),
        (("pause", "--all", "--reason", "a\nb"), "at most 200 printable characters"),
    ],
)
def test_a_wrong_command_line_says_what_would_be_right(run: Run, words: tuple[str, ...], said: str) -> None:
    refused = run(*words)
    assert (refused.exit_code, said in refused.stderr) == (2, True)


def test_what_the_fleet_runs_is_shown_and_stopped_whatever_file_lies_here(
    run: Run, routing: Path, ledger_at: str
) -> None:
    Ledger(ledger_at).migrate()
    assert run("routing", "publish").exit_code == 0
    routing.write_text(ROUTING.replace("cloud", "other"))
    told = json.loads(run("deployments", "--json").stdout)["deployments"]
    assert [row["deployment"] for row in told] == ["local/m", "local/n", "cloud/c"]
    routing.write_text("tasks: 3")
    assert run("pause", "--provider", "cloud").exit_code == 0
    assert run("resume", "--provider", "cloud").exit_code == 0
    refused = run("pause", "--provider", "other")
    assert (refused.exit_code, "it has cloud, local" in refused.stderr) == (2, True)
