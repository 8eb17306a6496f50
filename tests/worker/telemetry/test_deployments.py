"""What operators see of deployments: real health over a real Valkey, read as Prometheus reads it."""

from __future__ import annotations

import pytest
import redis.asyncio
from prometheus_client import CollectorRegistry, generate_latest

from tests.worker.job_runs import Rest, answer_of, card, deployment, routing_of, run_of
from worker.errors import DeploymentUnavailable, ProviderError
from worker.errors import FailureKind as Kind
from worker.health.step import WatchDeployment
from worker.health.store import HealthStore
from worker.health.watching import tell_view
from worker.job_run import Attempt, Plan, PlannedCall
from worker.retries.store import RetryBudget
from worker.telemetry.deployments import DeploymentSignals
from worker.telemetry.signals import Signals

S = PlannedCall(deployment("s"), "small", card(), 10)


class Desk:
    """One worker's health and its signals."""

    def __init__(self, client: redis.asyncio.Redis, namespace: str) -> None:
        self.registry = CollectorRegistry()
        self.events: list[tuple[str, dict[str, object]]] = []
        self.signals = signals = DeploymentSignals(
            self.registry, lambda name, fields: self.events.append((name, fields))
        )
        self.now_ms = 1_800_000_000_000
        self.health = HealthStore(client, namespace=namespace, watch=signals, now_ms=lambda: self.now_ms)
        self.step = WatchDeployment(self.health, watch=signals, jitter=lambda: 0.5)

    async def call(self, outcome: Exception | None = None) -> None:
        attempt = Attempt(run_of(routing=routing_of()), S, number=1, timeout_s=10.0)
        rest = Rest(outcome) if outcome else Rest(answer_of())
        if outcome is None:
            await self.step.run(attempt, rest)
            return
        with pytest.raises(type(outcome)):
            await self.step.run(attempt, rest)

    async def look(self) -> None:
        """As a worker does when a second has passed since it last looked."""
        tell_view(self.signals, await self.health.look((S.deployment,)), (S.deployment,))

    def read(self, metric: str, **labels: str) -> float | None:
        names = {"deployment": "local/s", "provider": "local"}
        return self.registry.get_sample_value(f"fairlane_deployment_{metric}", names | labels)

    def paused(self, scope: str) -> float | None:
        return self.registry.get_sample_value("fairlane_paused", {"scope": scope})


@pytest.fixture
def desk(client: redis.asyncio.Redis, namespace: str) -> Desk:
    return Desk(client, namespace)


async def test_calls_are_counted_by_how_they_end_and_timed(desk: Desk) -> None:
    await desk.call()
    await desk.call(ProviderError(Kind.RATE_LIMITED, "no", status=429, retry_after_s=0.0))
    await desk.call(ProviderError(Kind.QUOTA_EXHAUSTED, "no", status=429))
    for outcome in ("answered", "rate_limited", "quota_exhausted"):
        assert desk.read("calls_total", outcome=outcome) == 1
    assert (desk.read("429s_total"), desk.read("call_seconds_count")) == (2, 3)


async def test_a_breaker_is_told_once_when_it_opens_and_once_when_it_closes(desk: Desk) -> None:
    for _ in range(5):
        await desk.call(ProviderError(Kind.CONNECT_ERROR, "no"))
    await desk.look()
    opened = {"provider": "local", "deployment": "local/s", "open_s": 5.0, "why": "5 calls in a row failed"}
    assert desk.events == [("fairlane-breaker-opened", opened)]
    assert desk.read("breaker_state") == 2
    with pytest.raises(DeploymentUnavailable):
        await desk.call()
    attempt = Attempt(run_of(routing=routing_of()), S, number=1, timeout_s=10.0)
    attempt.job_run.plan = Plan((S,), despite=frozenset({"local/s"}))
    await desk.step.run(attempt, Rest(answer_of()))
    await desk.look()
    assert [name for name, _fields in desk.events] == ["fairlane-breaker-opened", "fairlane-breaker-closed"]
    assert (desk.read("breaker_state"), desk.read("refused_total", why="open")) == (0, 1)
    assert [desk.read("breaker_turns_total", to=to) for to in ("opened", "closed")] == [1, 1]


async def test_what_needs_a_person_is_told_and_a_rate_limit_only_counted(desk: Desk) -> None:
    await desk.call(ProviderError(Kind.RATE_LIMITED, "no", status=429, retry_after_s=9.0))
    desk.now_ms += 9_001
    await desk.call(ProviderError(Kind.AUTH, "no", status=401))
    assert [(name, fields["kind"]) for name, fields in desk.events] == [
        ("fairlane-deployment-cooled", "auth")
    ]
    for kind in ("rate_limited", "auth"):
        assert desk.read("cool_downs_total", kind=kind) == 1


async def test_the_fleets_limit_is_shown_once_one_is_known(desk: Desk) -> None:
    await desk.look()
    assert str(desk.read("limit")) == "nan"
    await desk.call(ProviderError(Kind.OVERLOADED, "no", status=529))
    await desk.look()
    assert (desk.read("limit"), desk.read("in_flight")) == (1, 0)


async def test_a_pause_and_its_end_are_told_once_however_often_it_is_looked_at(desk: Desk) -> None:
    await desk.health.pause("provider:local", reason="incident 17")
    await desk.look()
    await desk.look()
    assert desk.paused("provider:local") == 1
    await desk.health.resume("provider:local")
    await desk.look()
    assert desk.events == [
        ("fairlane-calls-paused", {"scope": "provider:local", "reason": "incident 17"}),
        ("fairlane-calls-resumed", {"scope": "provider:local"}),
    ]
    assert desk.paused("provider:local") == 0


async def test_retries_are_counted_as_paid_or_refused(client: redis.asyncio.Redis, namespace: str) -> None:
    signals = Signals()
    budget = RetryBudget(client, namespace=namespace, told=signals.retry)
    await budget.begin("acme", job_id="1", retries=0, content="a", floor_per_min=1)
    await budget.take("acme", "x", 1)
    await budget.take("acme", "y", 1)
    await budget.remember_failure("acme", job_id="1", content="a")
    await budget.begin("acme", job_id="2", retries=0, content="a", floor_per_min=1)
    await budget.begin("acme", job_id="3", retries=1, content="b", floor_per_min=1)
    found = generate_latest(signals._registry).decode()
    lines = {line for line in found.splitlines() if line.startswith("fairlane_retries_total")}
    assert lines == {
        'fairlane_retries_total{by="fallback",outcome="paid"} 1.0',
        'fairlane_retries_total{by="fallback",outcome="refused"} 1.0',
        'fairlane_retries_total{by="resubmission",outcome="refused"} 1.0',
        'fairlane_retries_total{by="celery",outcome="refused"} 1.0',
    }


async def test_after_a_new_routing_yaml_only_its_own_deployments_are_shown() -> None:
    signals = Signals()
    for name in ("kept", "gone"):
        signals.deployments.stands(deployment(name), state="open", in_flight=1, limit=2)
    signals.routing_changed(version="0123456789ab", number=2)
    signals.deployments.stands(deployment("kept"), state="open", in_flight=1, limit=2)
    found = generate_latest(signals._registry).decode()
    assert found.count('deployment="local/kept"') == 3
    assert "local/gone" not in found
