"""How fast deployments answer: the script against a model of its means, and what plans and other workers see of it."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import pytest
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import Valkey
from tests.worker.job_runs import Rest, answer_of, card, deployment, routing_of, run_of
from worker.errors import FailureKind, ProviderError
from worker.health.rules import Outcome, Took
from worker.health.step import WatchDeployment
from worker.health.store import LEAST_PACED_TOKENS, HealthStore
from worker.job_run import Answer, Attempt, PlannedCall
from worker.routing.step import PlanRoute
from worker.routing_file import KeySource, Tenant
from worker.speed import ENOUGH_ANSWERS, STALE_S, Speed

START_MS = 1_763_000_000_000
A, S = deployment("a"), deployment("s")


@dataclass
class Model:
    """What the script does, said once more."""

    answers: int = 0
    first_us: int = 0
    rated: int = 0
    token_us: int = 0
    output_mt: int = 0
    measured: int = 0

    def measure(self, took: Took, now: int) -> None:
        if now - self.measured > STALE_S * 1000:
            self.answers = self.rated = self.first_us = 0
        first_us = took.first_ms * 1000
        if took.is_silent and (not self.answers or first_us <= self.first_us):
            return
        self.answers, self.measured = self.answers + 1, now
        self.first_us = mean(self.first_us, first_us, self.answers, 1000)
        if took.is_silent:
            return
        self.output_mt = mean(self.output_mt, took.output_tokens * 1000, self.answers, 10**9)
        if took.output_tokens >= LEAST_PACED_TOKENS:
            self.rated += 1
            token_us = took.output_ms * 1000 / (took.output_tokens - 1)
            self.token_us = mean(self.token_us, token_us, self.rated, 100)


def mean(old: int, new: float, answers: int, least: int) -> int:
    if answers == 1:
        return int(new)
    new = min(new, 4 * max(old, least)) if answers > 4 else new
    return int((old + (new - old) / min(answers, 8)) // 1)


steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 500, 60_000, int(STALE_S * 1000) + 1]),
        st.builds(
            Took,
            first_ms=st.integers(0, 30_000),
            output_tokens=st.integers(0, 60),
            output_ms=st.integers(0, 9_000),
            is_silent=st.sampled_from([False, False, True]),
        ),
    ),
    min_size=10,
    max_size=30,
)


@settings(max_examples=30)
@given(steps=steps)
def test_the_script_keeps_the_means_of_the_model(valkey: Valkey, steps) -> None:
    asyncio.run(in_lockstep(valkey, steps))


async def in_lockstep(valkey: Valkey, steps) -> None:
    now, model = START_MS, Model()
    async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
        health = HealthStore(client, namespace=f"m{uuid.uuid4().hex}", now_ms=lambda: now)
        for number, (passed_ms, took) in enumerate(steps):
            now += passed_ms
            await learn(health, took, attempt=f"a{number}")
            model.measure(took, now)
            found = (await health.look([A])).deployments[A.name].speed
            if not model.answers:
                assert found is None or found.age_s > STALE_S
                continue
            token_ms = model.token_us / 1000 if model.rated else None
            age_s = (now - model.measured) / 1000
            assert found == Speed(
                model.answers, model.first_us / 1000, token_ms, model.output_mt / 1000, age_s
            )


async def learn(health: HealthStore, *took: Took | None, attempt: str = "a", whose: str = "") -> None:
    for number, one in enumerate(took):
        name = f"{attempt}-{number}"
        begun = await health.begin(A, attempt=name, forced=False, whose=whose)
        await health.finish(A, Outcome("ok"), attempt=name, begun=begun, jitter=0.5, took=one, whose=whose)


@pytest.fixture
def health(client: redis.asyncio.Redis, namespace: str) -> HealthStore:
    return HealthStore(client, namespace=namespace)


async def speed_of(health: HealthStore) -> Speed | None:
    return (await health.look([A])).deployments[A.name].speed


async def test_the_same_end_told_twice_is_learned_once(health: HealthStore):
    begun = await health.begin(A, attempt="once", forced=False)
    for _ in range(2):
        await health.finish(A, Outcome("ok"), attempt="once", begun=begun, jitter=0.5, took=Took(80, 20, 100))
    found = await speed_of(health)
    assert found is not None
    assert (found.answers, found.first_ms, found.output_tokens) == (1, 80.0, 20.0)


async def test_one_stuck_call_moves_little_and_a_slowed_deployment_is_seen_after_a_few(health: HealthStore):
    await learn(health, *[Took(100, 20, 190)] * 20, attempt="quick")
    await learn(health, Took(30_000, 20, 190), attempt="stuck")
    found = await speed_of(health)
    assert found is not None
    assert found.predicted_ms(20) < 200 * 1.7
    await learn(health, *[Took(1_000, 20, 190)] * 8, attempt="slow")
    found = await speed_of(health)
    assert found is not None
    assert found.predicted_ms(20) > 3 * 200


async def test_tiny_answers_say_nothing_of_the_pace(health: HealthStore):
    await learn(health, *[Took(50, 2, 0)] * 3)
    found = await speed_of(health)
    assert found is not None
    assert (found.token_ms, found.predicted_ms(2)) == (None, 50)
    await learn(health, Took(50, 21, 200), *[Took(50, 2, 0)] * 5, attempt="later")
    found = await speed_of(health)
    assert found is not None
    assert found.token_ms == 10.0


async def test_an_answer_is_measured_a_failure_is_not(health: HealthStore):
    attempt = Attempt(run_of(), PlannedCall(A, "small", card(), 10), number=1, timeout_s=10.0)
    with pytest.raises(ProviderError):
        await WatchDeployment(health).run(attempt, Rest(ProviderError(FailureKind.SERVER_ERROR, "no")))
    assert await speed_of(health) is None
    answer = answer_of(first_token_ms=40)
    await WatchDeployment(health).run(attempt, Rest(answer))
    found = await speed_of(health)
    assert found is not None
    assert (found.answers, found.first_ms, found.output_tokens) == (1, 40.0, answer.usage.output_tokens)


async def test_a_call_that_was_outrun_counts_if_it_was_silent_for_longer_than_the_mean(health: HealthStore):
    await learn(health, *[Took(100, 20, 190)] * 3)
    attempt = Attempt(run_of(), PlannedCall(A, "small", card(), 10), number=1, timeout_s=10.0)

    async def closed(_attempt: Attempt) -> Answer:
        raise asyncio.CancelledError

    for silent_ms, first_ms in ((50, 100.0), (500, 200.0)):
        attempt.silent_ms = silent_ms
        with pytest.raises(asyncio.CancelledError):
            await WatchDeployment(health).run(attempt, closed)
        found = await speed_of(health)
        assert found is not None
        assert (found.first_ms, found.token_ms) == (first_ms, 10.0)


async def test_every_workers_plan_knows_what_one_has_measured(
    health: HealthStore, client: redis.asyncio.Redis, namespace: str
):
    await learn(health, *[Took(40, 20, 190)] * ENOUGH_ANSWERS)
    other = HealthStore(client, namespace=namespace)
    routing = routing_of(aliases={"small": (S, A), "large": ()}, strategies={"small": "fastest"})
    cards = {S.name: card(), A.name: card()}
    job_run = run_of(routing=routing)
    await PlanRoute(cards=cards, missing={}, speeds=other.speeds).run(job_run, Rest())
    foretold = {call.deployment.name: call.predicted_ms for call in job_run.plan.calls}
    assert foretold == {A.name: 40 + 20 * 10, S.name: None}
    await PlanRoute(cards=cards, missing={}, speeds=other.speeds).untimed().run(job_run, Rest())
    assert {call.predicted_ms for call in job_run.plan.calls} == {None}


async def test_a_tenants_own_keys_are_as_fast_as_its_calls_and_else_as_all_others(
    health: HealthStore, client: redis.asyncio.Redis, namespace: str
):
    await learn(health, *[Took(40, 20, 190)] * ENOUGH_ANSWERS)
    tenants = [
        Tenant(name, routing_of().tiers["free"], keys={"local": KeySource(env="OWN")})
        for name in ("acme", "globex")
    ]
    await learn(health, *[Took(900, 20, 190)] * ENOUGH_ANSWERS, attempt="own", whose="acme")
    found = [await health.speeds(tenant, lambda: {A.name: A}) for tenant in tenants]
    assert [speeds[A.name].first_ms for speeds in found] == [900.0, 40.0]
