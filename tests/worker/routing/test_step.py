"""PlanRoute: the plan is laid down, or the job ends with the reason."""

from __future__ import annotations

import pytest

from producer_sdk.contract import ErrorCode, Message
from tests.worker.job_runs import Rest, card, deployment, job_of, routing_of, run_of
from worker.errors import JobStopped
from worker.routing.step import PlanRoute


async def test_a_job_goes_on_with_its_plan():
    job_run, rest = run_of(), Rest()
    await PlanRoute(cards={"local/s": card(), "local/l": card()}, missing={}).run(job_run, rest)
    assert rest.saw == [job_run]
    assert [call.deployment.name for call in job_run.plan.calls] == ["local/s", "local/l"]


async def test_a_job_is_reserved_for_by_the_models_own_vocabulary_where_it_is_there():
    routing = routing_of(aliases={"small": (deployment("qwen3-8b"), deployment("s", weight=0)), "large": ()})
    cards = {"local/qwen3-8b": card(1), "local/s": card(1)}
    job_run = run_of(job_of("x" * 500), routing=routing)
    await PlanRoute(cards=cards, missing={}, counts={"qwen3": lambda _text: 30}).run(job_run, Rest())
    assert [call.highest_pico for call in job_run.plan.calls] == [30 + 3 + 7 + 100, 500 + 16 + 64 + 100]


async def test_a_job_without_a_deployment_ends_and_keeps_the_reasons():
    job_run, rest = run_of(), Rest()
    with pytest.raises(JobStopped) as stopped:
        await PlanRoute(cards={}, missing={"local/s": "no LOCAL_KEY"}).run(job_run, rest)
    assert stopped.value.error.code == ErrorCode.PROVIDER_UNAVAILABLE
    assert stopped.value.error.reason == "no_deployment"
    assert job_run.plan.left_out == (("local/s", "no LOCAL_KEY"), ("local/l", "no price"))
    assert rest.saw == []


async def test_a_call_that_says_more_is_planned_at_what_it_may_cost_and_only_where_it_fits():
    routing = routing_of(aliases={"small": (deployment("s", context_tokens=700),), "large": ()})
    step = PlanRoute(cards={"local/s": card(1)}, missing={})
    job_run = run_of(job_of("x" * 500), routing=routing)
    await step.run(job_run, Rest())
    [call] = job_run.plan.calls
    more = (Message(role="assistant", content="y" * 60), Message(role="user", content="z" * 40))
    longer = await step.followed_up(job_run, call, more)
    assert longer is not None
    assert longer.highest_pico == call.highest_pico + 60 + 40 + 2 * 16
    assert (longer.follow_up, longer.deployment) == (more, call.deployment)
    assert job_run.plan.calls == (call,)
    assert await step.followed_up(job_run, call, (Message(role="user", content="z" * 4_000),)) is None
