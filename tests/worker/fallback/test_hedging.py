"""Hedging: real attempts that speak or stay silent on command, the real retry budget on a real Valkey."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio

from producer_sdk.contract import ErrorCode
from tests.worker.job_runs import Rest, answer_of, card, deployment, job_of, routing_of, run_of
from worker.errors import DeploymentUnavailable, HandBack, JobStopped, LeaseLost, ProviderError
from worker.errors import FailureKind as Kind
from worker.fallback import hedging
from worker.fallback.step import CallWithFallback
from worker.job_run import Answer, Attempt, JobRun, Plan, PlannedCall
from worker.retries.store import RetryBudget
from worker.routing_file import RoutingFile, TaskRule, Tenant, Tier

HEDGED = TaskRule("ask", "small", hedge_after_ms=60)
BROKEN = ProviderError(Kind.STREAM_BROKEN, "no", billed="unknown")
DOWN = ProviderError(Kind.SERVER_ERROR, "no")
REFUSED = JobStopped.of(ErrorCode.BUDGET_EXCEEDED, "no", reason="window_spent")


@dataclass
class Upstream:
    """The attempts' steps: each deployment speaks after its time and then ends; what was closed is settled first."""

    speaks_s: dict[str, float | None]
    ends: dict[str, Exception] = field(default_factory=dict)
    asked: list[Attempt] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    settled_before_answer: list[str] = field(default_factory=list)

    async def __call__(self, attempt: Attempt) -> Answer:
        model = attempt.call.deployment.model
        self.asked.append(attempt)
        try:
            await asyncio.sleep(60 if self.speaks_s[model] is None else self.speaks_s[model])
            if model in self.ends and not isinstance(self.ends[model], ProviderError):
                raise self.ends[model]
            if self.ends.get(model) is not DOWN:
                await attempt.speaks()
            await asyncio.sleep(0.01)
            if model in self.ends:
                raise self.ends[model]
            self.settled_before_answer = list(self.settled)
            return answer_of(model)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)  # its books
            attempt.job_run.spent_pico += attempt.call.highest_pico
            self.settled.append(model)
            raise

    @property
    def tried(self) -> list[str]:
        return [attempt.call.deployment.model for attempt in self.asked]


@pytest.fixture
def retry_budget(client: redis.asyncio.Redis, namespace: str) -> RetryBudget:
    return RetryBudget(client, namespace=namespace)


def routed(task: TaskRule = HEDGED, *, retries_per_min: int = 9) -> RoutingFile:
    tier = Tier("free", retries_per_min=retries_per_min)
    return routing_of(tasks={"ask": task}, tenants={"acme": Tenant("acme", tier)})


def planned(*names: str, highest_pico: int = 1_000, **fields: Any) -> JobRun:
    calls = tuple(PlannedCall(deployment(name), "small", card(), highest_pico) for name in names)
    fields = {"deadline": time.monotonic() + 30, "routing": routed(), **fields}
    return run_of(fields.pop("job", None), plan=Plan(calls), **fields)


async def called(job_run: JobRun, upstream: Upstream, budget: RetryBudget) -> Answer:
    async def follow_up(*_asked: object) -> None:
        return None

    step = CallWithFallback(
        proceed_attempt=upstream, retry_budget=budget, follow_up=follow_up, jitter=lambda: 0.0
    )
    return await step.run(job_run, Rest())


async def test_a_silent_first_attempt_gets_a_second_beside_it_and_the_first_token_wins(retry_budget):
    upstream, job_run = Upstream({"a": None, "b": 0.02, "c": 0.0}), planned("a", "b", "c")
    assert (await called(job_run, upstream, retry_budget)).text == "b"
    assert upstream.tried == ["a", "b"]
    first, second = upstream.asked
    assert (first.number, second.number, first.id != second.id) == (1, 2, True)
    assert upstream.settled_before_answer == ["a"], "the job's bill has the one that was closed"
    assert (second.silent_ms, 60 <= (first.silent_ms or 0) < 2_000) == (None, True)


async def test_the_first_may_still_win_and_then_the_second_is_closed(retry_budget):
    upstream = Upstream({"a": 0.12, "b": None})
    assert (await called(planned("a", "b"), upstream, retry_budget)).text == "a"
    assert (upstream.tried, upstream.settled_before_answer) == (["a", "b"], ["b"])


async def test_who_speaks_in_time_is_alone(retry_budget):
    upstream = Upstream({"a": 0.01, "b": 0.0})
    assert (await called(planned("a", "b"), upstream, retry_budget)).text == "a"
    assert upstream.tried == ["a"]


@pytest.mark.parametrize(
    "fields",
    [
        {"routing": routed(replace(HEDGED, hedge_after_ms=None))},
        {"routing": routed(replace(HEDGED, max_cost_usd=Decimal("0.000000001999")))},
        {"routing": routed(retries_per_min=0)},
        {"job": job_of(lane="batch")},
        {"batch_id": uuid4()},
        {"run_calls_left": 0},
        {"unresolved_attempts": 1},
        {"spent_pico": 1},
    ],
    ids=["not asked for", "two are too dear", "no retries", "batch", "reserved", "run cap", "open", "spent"],
)
async def test_no_second_attempt_is_made(retry_budget, fields):
    upstream = Upstream({"a": 0.15, "b": 0.0})
    assert (await called(planned("a", "b", **fields), upstream, retry_budget)).text == "a"
    assert upstream.tried == ["a"]


@pytest.mark.parametrize(
    "fields",
    [
        {"routing": routed(replace(HEDGED, max_cost_usd=Decimal("0.000000002")))},
        {"run_calls_left": 1},
        {"job": job_of(run_id="r")},
    ],
)
async def test_a_second_attempt_is_made_where_both_fit(retry_budget, fields):
    upstream = Upstream({"a": None, "b": 0.0})
    assert (await called(planned("a", "b", **fields), upstream, retry_budget)).text == "b"


async def test_what_is_foretold_to_take_too_long_is_not_asked_beside(retry_budget):
    job_run = planned("a", "b", deadline=time.monotonic() + 1)
    slow = replace(job_run.plan.calls[1], predicted_ms=2_000)
    job_run.plan = Plan((job_run.plan.calls[0], slow))
    upstream = Upstream({"a": 0.15, "b": 0.0})
    assert (await called(job_run, upstream, retry_budget)).text == "a"
    assert upstream.tried == ["a"]


@pytest.mark.parametrize(
    "failing", [DOWN, DeploymentUnavailable("full", wait_s=1.0), REFUSED, HandBack("no")]
)
async def test_a_second_attempt_that_comes_to_nothing_leaves_the_first_alone(retry_budget, failing):
    upstream = Upstream({"a": 0.2, "b": 0.0}, ends={"b": failing})
    assert (await called(planned("a", "b"), upstream, retry_budget)).text == "a"
    assert upstream.tried == ["a", "b"]


async def test_a_first_attempt_that_fails_leaves_the_second_to_answer(retry_budget):
    upstream = Upstream({"a": 0.1, "b": 0.2}, ends={"a": DOWN})
    assert (await called(planned("a", "b", "c"), upstream, retry_budget)).text == "b"
    assert upstream.tried == ["a", "b"]


async def test_when_both_fail_the_chain_goes_on_and_hedges_no_more(retry_budget):
    upstream = Upstream({"a": 0.1, "b": 0.1, "c": 0.2, "d": 0.0}, ends={"a": DOWN, "b": DOWN})
    assert (await called(planned("a", "b", "c", "d"), upstream, retry_budget)).text == "c"
    assert upstream.tried == ["a", "b", "c"]


async def test_a_second_that_was_not_begun_is_asked_again_after_the_first_has_failed(retry_budget):
    full = DeploymentUnavailable("full", wait_s=1.0)
    upstream = Upstream({"a": 0.15, "b": 0.0, "c": 0.0}, ends={"a": DOWN, "b": full})
    assert (await called(planned("a", "b", "c"), upstream, retry_budget)).text == "c"
    assert upstream.tried == ["a", "b", "b", "c"]


async def test_when_the_winner_breaks_off_the_one_that_was_closed_is_tried_again(retry_budget):
    upstream = Upstream({"a": 0.15, "b": 0.0}, ends={"b": BROKEN})
    job_run = planned("a", "b")
    assert (await called(job_run, upstream, retry_budget)).text == "a"
    assert upstream.tried == ["a", "b", "a"]
    assert [attempt.number for attempt in upstream.asked][:2] == [1, 2]


async def test_a_second_is_told_of_only_if_the_first_is_silent_still_when_it_may_begin():
    upstream, told = Upstream({"a": 0.05, "b": 0.0}), list[Attempt]()
    job_run = planned("a", "b")
    first, other = (Attempt(job_run, call, number=1, timeout_s=9.0) for call in job_run.plan.calls)

    async def late() -> Attempt:
        await asyncio.sleep(0.2)
        return other

    raced = await hedging.race(first, silent_s=0.01, second=late, proceed=upstream, told=told.append)
    assert (raced.answer is not None, raced.second, told, upstream.tried) == (True, None, [], ["a"])


async def test_a_hedge_is_a_retry_of_the_tenants_budget(retry_budget):
    for text in ("b", "a"):  # half of the two is left to what has failed
        upstream = Upstream({"a": 0.15, "b": 0.0})
        job_run = planned("a", "b", routing=routed(retries_per_min=2))
        assert (await called(job_run, upstream, retry_budget)).text == text


async def both_open(upstream: Upstream, job_run: JobRun, budget: RetryBudget) -> asyncio.Task[Answer]:
    calling = asyncio.create_task(called(job_run, upstream, budget))
    while len(upstream.asked) < 2:
        await asyncio.sleep(0.005)
    return calling


@pytest.mark.parametrize("why", ["cancelled", "lost"])
async def test_an_interrupted_job_closes_and_settles_both_of_its_open_attempts(retry_budget, why):
    upstream, job_run = Upstream({"a": None, "b": None}), planned("a", "b")
    calling = await both_open(upstream, job_run, retry_budget)
    job_run.interruption = why
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert sorted(upstream.settled) == ["a", "b"]
    assert job_run.spent_pico == 2_000
    assert [attempt.silent_ms for attempt in upstream.asked] == [None, None], "nobody was outrun"


async def test_a_lease_found_lost_by_one_closes_the_other(retry_budget):
    upstream = Upstream({"a": None, "b": 0.05}, ends={"b": LeaseLost("gone")})
    with pytest.raises(LeaseLost):
        await called(planned("a", "b"), upstream, retry_budget)
    assert upstream.settled == ["a"]


async def test_of_two_that_speak_in_the_same_moment_one_answers():
    ready = asyncio.Event()

    async def proceed(attempt: Attempt) -> Answer:
        await ready.wait()
        await attempt.speaks()
        return answer_of(attempt.call.deployment.model)

    job_run = planned("a", "b")
    first, other = (Attempt(job_run, call, n, 9.0) for n, call in enumerate(job_run.plan.calls, 1))

    async def second() -> Attempt:
        asyncio.get_running_loop().call_later(0.02, ready.set)
        return other

    begun: list[Attempt] = []
    raced = await hedging.race(first, silent_s=0.01, second=second, proceed=proceed, told=begun.append)
    assert begun == [other]
    assert raced.answer is not None
    assert (raced.answer.text, raced.ended, raced.closed) == ("a", [], other)
