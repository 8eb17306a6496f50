"""AvoidUnhealthy and WatchDeployment over a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
import redis.asyncio

from producer_sdk.contract import Straight
from tests.worker.job_runs import Rest, answer_of, card, deployment, job_of, routing_of, run_of
from worker.errors import DeploymentUnavailable, HandBack, JobStopped, ProviderError
from worker.errors import FailureKind as Kind
from worker.health.rules import LEAST_PAUSED_S
from worker.health.step import AvoidUnhealthy, WatchDeployment
from worker.health.store import HealthStore
from worker.job_run import Attempt, JobRun, Plan, PlannedCall, utc_now
from worker.routing_file import KeySource

T = TypeVar("T")
S, L = (PlannedCall(deployment(name), "small", card(), 10) for name in "sl")
LIMITED = ProviderError(Kind.RATE_LIMITED, "no", status=429, retry_after_s=20.0)
BROKEN = ProviderError(Kind.SERVER_ERROR, "no", status=500)
DOWN = ProviderError(Kind.CONNECT_ERROR, "no")


@pytest.fixture
def health(client: redis.asyncio.Redis, namespace: str) -> HealthStore:
    return HealthStore(client, namespace=namespace)


def planned(**fields) -> JobRun:
    return run_of(
        fields.pop("job", None), routing=routing_of(), plan=Plan((S, L), (("x/y", "no price"),)), **fields
    )


async def attempted(health: HealthStore, rest: Rest, call: PlannedCall = S, job_run: JobRun | None = None):
    attempt = Attempt(job_run or planned(), call, number=1, timeout_s=10.0)
    return await WatchDeployment(health, jitter=lambda: 0.5).run(attempt, rest)


async def failed(health: HealthStore, error: ProviderError, call: PlannedCall = S, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ProviderError):
            await attempted(health, Rest(error), call)


async def sifted(health: HealthStore, job_run: JobRun) -> JobRun:
    rest = Rest()
    await AvoidUnhealthy(health, jitter=lambda: 0.0).run(job_run, rest)
    assert rest.saw == [job_run]
    return job_run


async def test_a_plan_without_trouble_goes_on_as_it_is(health: HealthStore):
    assert (await sifted(health, planned())).plan == Plan((S, L), (("x/y", "no price"),))


async def test_what_one_call_learns_every_later_plan_knows(health: HealthStore):
    await failed(health, LIMITED)
    plan = (await sifted(health, planned())).plan
    assert [call.deployment.name for call in plan.calls] == ["local/l"]
    assert plan.left_out == (("x/y", "no price"), ("local/s", "cooling down for 20 s: 429"))


async def test_an_answer_whose_headers_say_that_it_was_the_last_cools_down_too(health: HealthStore):
    await attempted(health, Rest(answer_of(exhausted_s=9.0)))
    plan = (await sifted(health, planned())).plan
    assert plan.left_out[-1][0] == "local/s"
    assert "its headers say that nothing is left" in plan.left_out[-1][1]


async def test_a_job_that_can_only_wait_gives_its_slot_back_and_one_that_cannot_wait_ends(
    health: HealthStore,
):
    await failed(health, LIMITED)
    await failed(health, ProviderError(Kind.RATE_LIMITED, "no", status=429, retry_after_s=7.0), L)
    rest = Rest()
    with pytest.raises(HandBack) as back:
        await AvoidUnhealthy(health, jitter=lambda: 0.0).run(planned(), rest)
    assert 6_000 < back.value.delay_ms <= 7_001
    soon = job_of(deadline=utc_now() + timedelta(seconds=3))
    with pytest.raises(JobStopped) as stopped:
        await AvoidUnhealthy(health).run(planned(job=soon), rest)
    assert (stopped.value.error.code, stopped.value.error.reason) == ("provider_unavailable", "rate_limited")
    assert rest.saw == []


async def test_the_last_one_left_is_called_though_its_breaker_is_open(health: HealthStore):
    await failed(health, DOWN, times=5)
    with pytest.raises(
        DeploymentUnavailable, match=r"local/s: breaker open for 5 s: 5 calls in a row failed"
    ):
        await attempted(health, Rest())
    await failed(health, DOWN, L, times=5)
    job_run = await sifted(health, planned())
    assert job_run.plan.calls == (S,), "the first to be half-open again"
    assert (await attempted(health, Rest(), S, job_run)).text == "yes"
    assert (await attempted(health, Rest())).text == "yes", "its answer closed the breaker"


async def test_the_only_one_of_a_plan_is_not_closed_to_its_job_under_way_either(health: HealthStore):
    await failed(health, DOWN, times=5)
    with pytest.raises(DeploymentUnavailable, match="breaker open"):
        await attempted(health, Rest(), S, planned())
    alone = run_of(routing=routing_of(), plan=Plan((S,)))
    assert (await attempted(health, Rest(), S, alone)).text == "yes"


async def test_content_that_fails_again_and_again_leaves_the_deployment_to_everybody_elses(
    health: HealthStore,
):
    for _ in range(10):
        with pytest.raises(ProviderError):
            await attempted(health, Rest(BROKEN), job_run=planned(resubmitted=True))
    assert (await attempted(health, Rest())).text == "yes"


async def test_a_pause_hands_back_what_comes_and_refuses_what_was_planned_before(health: HealthStore):
    await health.pause("all", reason="incident")
    with pytest.raises(HandBack, match="local/s: paused"):
        await AvoidUnhealthy(health).run(planned(), Rest())
    rest = Rest()
    with pytest.raises(DeploymentUnavailable, match="paused"):
        await attempted(health, rest)
    assert rest.saw == []


@pytest.mark.parametrize(
    "error",
    [
        ProviderError(Kind.AUTH, "no", status=401),
        ProviderError(Kind.QUOTA_EXHAUSTED, "no", status=429),
        ProviderError(Kind.INVALID_REQUEST, "no", status=404, model_unknown=True),
    ],
    ids=lambda error: error.kind,
)
async def test_what_needs_a_person_puts_a_job_off_for_a_second_and_is_asked_then_where_nothing_else_is_left(
    health: HealthStore, error: ProviderError
):
    await failed(health, error)
    with pytest.raises(DeploymentUnavailable) as stopped:
        await attempted(health, Rest())
    assert stopped.value.wait_s == LEAST_PAUSED_S
    alone = await sifted(health, run_of(routing=routing_of(), plan=Plan((S,))))
    assert (await attempted(health, Rest(), S, alone)).text == "yes"


class KeepsItsReply(Straight):
    """The server has given the slot, and the answer is on its way for ever."""

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        reply = await do()
        if name == "redis:health_begin":
            await asyncio.Event().wait()
        return reply


async def test_a_call_cut_off_while_it_asks_for_its_slot_leaves_none_taken(
    client: redis.asyncio.Redis, namespace: str, health: HealthStore
):
    asked = HealthStore(client, namespace=namespace, crossing=KeepsItsReply())
    calling = asyncio.create_task(attempted(asked, Rest()))
    while not (await health.look([S.deployment])).deployments["local/s"].in_flight:
        await asyncio.sleep(0.01)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert (await health.look([S.deployment])).deployments["local/s"].in_flight == 0


async def test_a_cancelled_call_frees_its_slot(health: HealthStore):
    async def hangs(_attempt: Attempt):
        await asyncio.sleep(60)

    attempt = Attempt(planned(), S, number=1, timeout_s=10.0)
    calling = asyncio.create_task(WatchDeployment(health).run(attempt, hangs))
    while not (await health.look([S.deployment])).deployments["local/s"].in_flight:
        await asyncio.sleep(0.01)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert (await health.look([S.deployment])).deployments["local/s"].in_flight == 0


OWN = replace(S, own_key=True)


def with_a_key_of_its_own(call: PlannedCall = OWN) -> JobRun:
    acme = replace(routing_of().tenants["acme"], keys={"local": KeySource(env="ACME_KEY")})
    return run_of(tenant=acme, plan=Plan((call,)))


@pytest.mark.parametrize(
    "error",
    [
        LIMITED,
        ProviderError(Kind.AUTH, "no", status=401),
        ProviderError(Kind.QUOTA_EXHAUSTED, "no", status=402),
    ],
)
async def test_what_a_key_meets_is_known_of_calls_with_that_key_alone(health: HealthStore, error):
    await failed(health, error, OWN)
    assert (await sifted(health, planned())).plan.calls == (S, L), "others call with the fleet's key"
    view, _age_s = await health.view(routing_of().deployments, whose="acme")
    assert view.deployments["local/s"].cool or view.providers["local"]
    await failed(health, error)
    globex = replace(run_of(plan=Plan((OWN,))).known_tenant(), name="globex", keys={"local": KeySource("G")})
    assert (await sifted(health, run_of(tenant=globex, plan=Plan((OWN,))))).plan.calls == (OWN,)


async def test_a_pause_stops_calls_with_a_tenants_own_key_too(health: HealthStore):
    await health.pause("provider:local")
    with pytest.raises(HandBack):
        await sifted(health, with_a_key_of_its_own())
    with pytest.raises(DeploymentUnavailable):
        await attempted(health, Rest(), OWN, with_a_key_of_its_own())


async def test_a_replaced_key_is_called_again_and_a_rate_limit_stays(health: HealthStore):
    renewed = [("local", "acme"), ("local", "")]
    avoid = AvoidUnhealthy(health, jitter=lambda: 0.0, renewed=lambda: [renewed.pop()] if renewed else [])
    await failed(health, LIMITED, L)
    await failed(health, ProviderError(Kind.AUTH, "no", status=401))
    await failed(health, ProviderError(Kind.AUTH, "no", status=403), OWN)
    job_run = planned()
    await avoid.run(job_run, Rest())
    assert job_run.plan.calls == (S,)
    await avoid.run(with_a_key_of_its_own(), Rest())
    own, _age_s = await health.view(routing_of().deployments, whose="acme")
    assert own.deployments["local/s"].cool is None
