"""CallWithFallback: real attempts through a plain function, the real retry budget on a real Valkey."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from producer_sdk.contract import ErrorCode, Message
from tests.worker.fallback.chains import called, dearer, ended, error, planned, tried
from tests.worker.job_runs import Rest, answer_of, job_of, routing_of
from worker.errors import DeploymentUnavailable, HandBack, JobStopped, LeaseLost, RetryLater
from worker.errors import FailureKind as Kind
from worker.fallback.step import CallWithFallback
from worker.job_run import Attempt, JobRun, Plan, WrongAnswer, utc_now
from worker.routing_file import TaskRule, Tenant, Tier

MORE = (Message(role="user", content="cite"),)


def wrong(code: ErrorCode = ErrorCode.CITATIONS_MISSING) -> WrongAnswer:
    return WrongAnswer(answer_of("no"), code=code, wrong="it cites nothing", follow_up=MORE)


async def test_the_first_deployment_answers_and_nobody_else_is_asked(retry_budget):
    attempts = Rest()
    assert (await called(planned("a", "b"), attempts, retry_budget)).text == "yes"
    assert tried(attempts) == ["a"]
    (attempt,) = attempts.saw
    assert (attempt.number, 17 < attempt.timeout_s <= 18) == (1, True)


async def test_after_a_failure_the_next_answers(retry_budget):
    attempts = Rest(error(Kind.OVERLOADED), error(Kind.TIMEOUT, billed="unknown"), answer_of("late"))
    assert (await called(planned("a", "b", "c"), attempts, retry_budget)).text == "late"
    assert tried(attempts) == ["a", "b", "c"]
    assert len({attempt.id for attempt in attempts.saw}) == 3


async def test_the_last_deployment_is_tried_once_more_and_then_the_job_ends(retry_budget):
    attempts = Rest(error(Kind.OVERLOADED, status=529))
    found = await ended(planned("a", "b"), attempts, retry_budget)
    assert tried(attempts) == ["a", "b", "b"]
    assert (found.code, found.reason) == (ErrorCode.PROVIDER_UNAVAILABLE, "overloaded")


async def test_a_wrong_request_is_sent_once(retry_budget):
    attempts = Rest(error(Kind.INVALID_REQUEST, status=400, code="invalid_tools"))
    assert (await ended(planned("a", "b"), attempts, retry_budget)).code == ErrorCode.INVALID_JOB
    assert tried(attempts) == ["a"]


async def test_a_tenant_without_retries_left_pays_for_no_more_billed_failures(retry_budget):
    broken = error(Kind.STREAM_BROKEN, billed="unknown")
    attempts = Rest(broken)
    found = await ended(planned("a", "b", "c", "d"), attempts, retry_budget)
    assert (found.code, found.reason) == (ErrorCode.RETRY_CAP, "fallback")
    assert tried(attempts) == ["a", "b", "c"], "the tier's floor is two retries a minute"
    assert found.retry_after_s > 20
    unbilled = Rest(error(Kind.OVERLOADED), answer_of())
    assert (await called(planned("a", "b"), unbilled, retry_budget)).text == "yes"


async def test_a_deployment_that_takes_no_call_is_passed_over_and_none_pays(retry_budget):
    attempts = Rest(DeploymentUnavailable("a is full", wait_s=0.25), answer_of())
    assert (await called(planned("a", "b"), attempts, retry_budget)).text == "yes"
    assert tried(attempts) == ["a", "b"]


async def test_a_job_whose_deployments_take_no_call_gives_its_slot_back(retry_budget):
    full, open_ = (DeploymentUnavailable(why, wait_s=s) for why, s in (("a is full", 2.0), ("b open", 8.0)))
    with pytest.raises(HandBack) as back:
        await called(planned("a", "b"), Rest(full, open_), retry_budget)
    assert back.value.delay_ms == 2001


async def test_an_overload_with_a_long_wait_gives_the_slot_back_and_pays_for_the_retry(retry_budget):
    busy = error(Kind.OVERLOADED, retry_after_s=7.0)
    with pytest.raises(HandBack) as back:
        await called(planned("a"), Rest(busy), retry_budget)
    assert back.value.delay_ms == 7001
    poor = planned("a")
    poor.tenant = replace(poor.known_tenant(), tier=replace(poor.known_tenant().tier, retries_per_min=0))
    poor.tenant = replace(poor.tenant, name="poor")
    assert (await ended(poor, Rest(busy), retry_budget)).code == ErrorCode.RETRY_CAP


async def test_a_job_that_opened_the_breaker_itself_ends_as_it_failed(retry_budget):
    open_ = DeploymentUnavailable("a: breaker open", wait_s=8.0, is_broken=True)
    stopped = await ended(planned("a"), Rest(error(Kind.SERVER_ERROR), open_), retry_budget)
    assert (stopped.code, stopped.reason) == (ErrorCode.PROVIDER_UNAVAILABLE, "server_error")
    with pytest.raises(HandBack):  # it has met another one's
        await called(planned("a"), Rest(open_), retry_budget)


async def test_what_a_budget_refuses_goes_to_the_open_breaker_or_waits_for_one_that_cools(retry_budget):
    refused = JobStopped.of(ErrorCode.BUDGET_EXCEEDED, "no", reason="window_spent")
    job_run, down = planned("a"), planned("b").plan.calls[0]
    job_run.plan = replace(job_run.plan, standby=down)
    attempts = Rest(refused, answer_of())
    assert (await called(job_run, attempts, retry_budget)).text == "yes"
    assert tried(attempts) == ["a", "b"]
    assert (await ended(job_run, Rest(refused), retry_budget)).reason == "window_spent"
    for on_budget in ("reject", "park"):
        job_run = planned("a", job=job_of(on_budget=on_budget))
        job_run.plan = replace(job_run.plan, wait_s=3.0)
        with pytest.raises(HandBack) as back:
            await called(job_run, Rest(refused), retry_budget)
        assert back.value.delay_ms == 3001


async def test_a_deployment_whose_breaker_is_open_is_left_alone_after_a_failure(retry_budget):
    job_run, down = planned("a"), planned("b").plan.calls[0]
    job_run.plan = replace(job_run.plan, standby=down)
    attempts = Rest(error(Kind.OVERLOADED))
    await ended(job_run, attempts, retry_budget)
    assert tried(attempts) == ["a", "a"]


async def test_a_deployment_that_takes_no_call_before_the_jobs_deadline_ends_it(retry_budget):
    soon = job_of(deadline=utc_now() + timedelta(seconds=3))
    found = await ended(
        planned("a", job=soon), Rest(DeploymentUnavailable("a: cooling", wait_s=5.0)), retry_budget
    )
    assert (found.code, found.reason) == (ErrorCode.PROVIDER_UNAVAILABLE, "put_off")
    assert "a: cooling" in found.message


async def test_a_budget_that_refuses_one_deployment_may_have_room_for_a_cheaper_one(retry_budget):
    first = JobStopped.of(ErrorCode.BUDGET_EXCEEDED, "no", reason="never_fits")
    second = JobStopped.of(ErrorCode.BUDGET_EXCEEDED, "no", reason="in_flight")
    attempts = Rest(first, answer_of())
    await called(planned("dear", "cheap"), attempts, retry_budget)
    assert tried(attempts) == ["dear", "cheap"]
    assert (await ended(planned("dear", "cheap"), Rest(first, second), retry_budget)).reason == "never_fits"


async def test_one_cost_limit_spans_the_chain(retry_budget):
    routing = routing_of(tasks={"ask": TaskRule("ask", "small", max_cost_usd=Decimal("0.000000001500"))})
    job_run = planned("a", "b", routing=routing)
    seen: list[str] = []

    async def billed_failure(attempt: Attempt):
        seen.append(attempt.call.deployment.model)
        attempt.job_run.spent_pico += 1_000
        raise error(Kind.STREAM_BROKEN, billed="unknown")

    step = CallWithFallback(proceed_attempt=billed_failure, retry_budget=retry_budget, follow_up=dearer)
    with pytest.raises(JobStopped) as stopped:
        await step.run(job_run, Rest())
    assert seen == ["a"]
    assert stopped.value.error.code == ErrorCode.PROVIDER_UNAVAILABLE


async def test_one_deadline_spans_the_chain(retry_budget):
    attempts = Rest(error(Kind.OVERLOADED))
    found = await ended(planned("a", "b", deadline=time.monotonic() - 1), attempts, retry_budget)
    assert (found.code, attempts.saw) == (ErrorCode.DEADLINE_EXCEEDED, [])
    job_run = planned("a", "b", deadline=time.monotonic() - 1, unresolved_attempts=1)
    assert (await ended(job_run, attempts, retry_budget)).code == ErrorCode.UNCERTAIN


async def test_attempts_of_earlier_deliveries_keep_their_numbers(retry_budget):
    attempts = Rest()
    await called(planned("a", unresolved_attempts=2), attempts, retry_budget)
    assert attempts.saw[0].number == 3


async def test_a_batch_job_comes_back_later_while_its_deadline_allows(retry_budget):
    attempts = Rest(error(Kind.CONNECT_ERROR))
    with pytest.raises(RetryLater) as later:
        await called(planned("a", job=job_of(lane="batch")), attempts, retry_budget)
    assert 2500 <= later.value.delay_ms <= 5000
    soon = job_of(lane="batch", deadline=utc_now() + timedelta(seconds=2))
    assert (await ended(planned("a", job=soon), attempts, retry_budget)).code in (
        ErrorCode.PROVIDER_UNAVAILABLE,
        ErrorCode.RETRY_CAP,
    )


@pytest.mark.parametrize(
    "passing", [LeaseLost("gone"), HandBack("away"), JobStopped.of(ErrorCode.RUN_CAP, "no")]
)
async def test_what_is_no_providers_failure_passes_through_at_once(retry_budget, passing):
    attempts = Rest(passing)
    with pytest.raises(type(passing)):
        await called(planned("a", "b"), attempts, retry_budget)
    assert tried(attempts) == ["a"]


@pytest.mark.parametrize(
    ("reason", "resets_in_s", "delay_ms"),
    [
        ("in_flight", None, 5_000),
        ("window_spent", 3600, 270_000),
        ("window_spent", 60, 60_000),
        ("window_spent", -1, 1_000),
    ],
)
async def test_a_parked_job_gives_its_slot_back_until_its_budget_may_have_room(
    retry_budget, reason, resets_in_s, delay_ms
):
    resets_at = utc_now() + timedelta(seconds=resets_in_s) if resets_in_s else None
    refused = JobStopped.of(
        ErrorCode.BUDGET_EXCEEDED,
        "no",
        reason=reason,
        resets_at=resets_at,
        retry_after_s=5.0 if reason == "in_flight" else None,
    )
    job = job_of(on_budget="park")
    with pytest.raises(HandBack, match="parked") as parked:
        await called(planned("a", job=job), Rest(refused), retry_budget)
    assert abs(parked.value.delay_ms - delay_ms) < 1_000


@pytest.mark.parametrize(("reason", "on_budget"), [("never_fits", "park"), ("window_spent", "reject")])
async def test_a_job_that_waiting_cannot_help_or_that_wants_none_is_refused(retry_budget, reason, on_budget):
    resets_at = utc_now() + timedelta(hours=1) if reason == "window_spent" else None
    refused = JobStopped.of(ErrorCode.BUDGET_EXCEEDED, "no", reason=reason, resets_at=resets_at)
    error = await ended(planned("a", job=job_of(on_budget=on_budget)), Rest(refused), retry_budget)
    assert (error.code, error.reason) == ("budget_exceeded", reason)


async def test_a_wrong_answer_is_told_what_was_wrong_once_and_then_the_next_begins_anew(retry_budget):
    routing = routing_of(
        tenants={"acme": Tenant("acme", Tier("free", max_output_tokens=9, retries_per_min=9))}
    )
    attempts = Rest(wrong(), wrong(), wrong(), answer_of("right"))
    assert (await called(planned("a", "b", "c", routing=routing), attempts, retry_budget)).text == "right"
    assert tried(attempts) == ["a", "a", "b", "c"]
    assert [attempt.call.follow_up for attempt in attempts.saw] == [(), MORE, (), ()]
    assert [attempt.call.highest_pico for attempt in attempts.saw] == [1_000, 1_100, 1_000, 1_000]
    assert len({attempt.id for attempt in attempts.saw}) == 4


@pytest.mark.parametrize("code", [ErrorCode.CITATIONS_MISSING, ErrorCode.INVALID_OUTPUT])
async def test_a_job_that_is_never_answered_rightly_ends_with_what_was_wrong(retry_budget, code):
    attempts = Rest(wrong(code))
    found = await ended(planned("a"), attempts, retry_budget)
    assert tried(attempts) == ["a", "a"]
    assert (found.code, found.status, found.retryable) == (code, 502, True)
    assert found.message.startswith(
        f"no answer was what the job asks for (local/a: {code}, it cites nothing; local/a"
    )


async def test_a_re_ask_and_what_follows_it_are_paid_from_the_retry_budget(retry_budget):
    attempts = Rest(wrong())
    found = await ended(planned("a", "b", "c"), attempts, retry_budget)
    assert (found.code, tried(attempts)) == (ErrorCode.RETRY_CAP, ["a", "a", "b"])


async def test_a_re_ask_that_the_cost_limit_does_not_allow_is_left_out(retry_budget):
    routing = routing_of(tasks={"ask": TaskRule("ask", "small", max_cost_usd=Decimal("0.000000001050"))})
    attempts = Rest(wrong(), answer_of("right"))
    await called(planned("a", "b", routing=routing), attempts, retry_budget)
    assert tried(attempts) == ["a", "b"]
    found = await ended(planned("a", routing=routing), Rest(wrong()), retry_budget)
    assert found.code == ErrorCode.CITATIONS_MISSING


async def test_a_re_ask_that_fails_otherwise_is_followed_by_the_next(retry_budget):
    attempts = Rest(wrong(), error(Kind.OVERLOADED), answer_of("right"))
    assert (await called(planned("a", "b"), attempts, retry_budget)).text == "right"
    assert tried(attempts) == ["a", "a", "b"]
    found = await ended(planned("a"), Rest(wrong(), error(Kind.OVERLOADED)), retry_budget)
    assert (found.code, "overloaded" in found.message) == (ErrorCode.CITATIONS_MISSING, True)


@pytest.mark.parametrize("code", [ErrorCode.CITATIONS_MISSING, ErrorCode.INVALID_OUTPUT])
async def test_a_re_ask_that_its_budget_refuses_is_not_parked_for_the_paid_answer_would_be_paid_again(
    retry_budget, code
):
    refused = JobStopped.of(
        ErrorCode.BUDGET_EXCEEDED, "no", reason="window_spent", resets_at=utc_now() + timedelta(hours=3)
    )
    parks = planned("a", job=job_of(on_budget="park"))
    found = await ended(parks, Rest(wrong(code), refused), retry_budget)
    assert found.code == code
    assert "no other attempt: budget_exceeded (window_spent)" in found.message
    with pytest.raises(HandBack, match="parked"):
        await called(planned("a", job=job_of(on_budget="park")), Rest(refused), retry_budget)


def foretold(job_run: JobRun, **predicted_ms: int) -> JobRun:
    """The same, with how long each of its calls is foretold to take."""
    calls = (replace(call, predicted_ms=predicted_ms[call.deployment.model]) for call in job_run.plan.calls)
    return replace(job_run, plan=Plan(tuple(calls)))


async def test_after_a_failure_what_is_foretold_to_take_longer_than_is_left_is_skipped(retry_budget):
    job_run = foretold(planned("a", "b", "c", deadline=time.monotonic() + 2), a=9_000, b=2_500, c=1_500)
    attempts = Rest(error(Kind.OVERLOADED), answer_of())
    await called(job_run, attempts, retry_budget)
    assert tried(attempts) == ["a", "c"], "the first is the plan's to leave out"
    [(name, reason)] = job_run.plan.left_out
    assert (name, reason.startswith("too slow: about 2500 ms by its last answers, 1")) == ("local/b", True)


async def test_the_last_one_left_is_skipped_only_with_less_than_half_of_its_time_left(retry_budget):
    lucky = foretold(planned("a", "b", deadline=time.monotonic() + 2), a=100, b=3_500)
    attempts = Rest(error(Kind.OVERLOADED), answer_of())
    await called(lucky, attempts, retry_budget)
    assert tried(attempts) == ["a", "b"]
    late = foretold(planned("a", "b", deadline=time.monotonic() + 2), a=100, b=4_500)
    attempts = Rest(error(Kind.OVERLOADED))
    found = await ended(late, attempts, retry_budget)
    assert tried(attempts) == ["a"]
    assert (found.code, "local/b: too slow: about 4500 ms" in found.message) == ("provider_unavailable", True)
