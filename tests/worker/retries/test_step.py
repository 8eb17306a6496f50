"""CapRetries on a real Valkey: who is counted, who is not, and what an empty budget says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio

from producer_sdk.contract import AttemptSummary, ErrorCode, GenerationParams, uuid7
from tests.worker.job_runs import Rest, answer_of, job_of, run_of
from worker.errors import HandBack, JobStopped, LedgerUnavailable
from worker.job_run import Answer, JobRun, ProceedJob
from worker.retries.rules import ANSWER_SPREAD_MS, LEAST_ANSWER_MS, content_hash, refusal_delay_ms
from worker.retries.step import CapRetries, RememberFailures
from worker.retries.store import RetryBudget

FAILED = JobStopped.of(ErrorCode.PROVIDER_UNAVAILABLE, "all down")
REFUSED = JobStopped.of(ErrorCode.BUDGET_EXCEEDED, "no money")


class Both:
    """The two steps, one around the other, as the pipeline has them."""

    def __init__(self, budget: RetryBudget) -> None:
        self.remember = RememberFailures(budget)
        self.cap = CapRetries(budget, jitter=lambda: 0.5)

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        return await self.remember.run(job_run, lambda inner: self.cap.run(inner, proceed))


@pytest.fixture
def step(client: redis.asyncio.Redis, namespace: str) -> Both:
    return Both(RetryBudget(client, namespace=namespace))


async def ended(step: Both, rest: Rest, **fields) -> JobStopped:
    """How a job ends that has waited in its lane for as long as a refused resubmission does."""
    with pytest.raises(JobStopped) as stopped:
        await step.run(run_of(**{"queue_ms": LEAST_ANSWER_MS, **fields}), rest)
    return stopped.value


async def test_an_agent_that_resubmits_what_fails_is_stopped_at_its_tenants_cap(step: Both):
    rest = Rest(FAILED)
    for _ in range(3):
        assert (await ended(step, rest)).error.code == ErrorCode.PROVIDER_UNAVAILABLE
    error = (await ended(step, rest)).error
    assert (error.code, error.status, error.reason, error.retryable) == (
        ErrorCode.RETRY_CAP,
        429,
        "resubmitted",
        True,
    )
    assert 25 < error.retry_after_s <= 30
    assert "wait 30 s" in error.message
    assert len(rest.saw) == 3


async def test_celery_retries_are_counted_and_named(step: Both):
    job = job_of()
    for retries in (1, 2):
        await step.run(run_of(job, retries=retries), Rest())
    assert (await ended(step, Rest(), job=job, retries=3, queue_ms=0)).error.reason == "retried"


async def test_a_resubmission_waits_in_its_lane_before_it_is_refused(step: Both):
    for _ in range(3):
        await ended(step, Rest(FAILED))
    job, rest = job_of(), Rest()
    with pytest.raises(HandBack) as back:
        await step.run(run_of(job, queue_ms=LEAST_ANSWER_MS - 500), rest)
    assert 500 <= back.value.delay_ms <= 500 + ANSWER_SPREAD_MS
    assert (await ended(step, rest, job=job)).error.code == ErrorCode.RETRY_CAP
    assert rest.saw == []


async def test_a_resubmission_runs_if_a_token_is_there_when_it_comes_back(
    client: redis.asyncio.Redis, namespace: str
):
    clock = [1_800_000_000_000]
    step = Both(RetryBudget(client, namespace=namespace, now_ms=lambda: clock[0]))
    for _ in range(3):
        await ended(step, Rest(FAILED))
    job = job_of()
    with pytest.raises(HandBack):
        await step.run(run_of(job), Rest())
    clock[0] += 30_000
    assert (await step.run(run_of(job, queue_ms=30_000), Rest())).text == "yes"


def test_a_resubmission_that_would_expire_meanwhile_is_refused_at_once():
    now = datetime(2026, 11, 24, tzinfo=UTC)
    for left_s, delay_ms in ((1, 0), (2, 0), (3, 2_000)):
        job = job_of(deadline=now + timedelta(seconds=left_s))
        assert refusal_delay_ms(job, waited_ms=0, now=now, jitter=0.0) == delay_ms
    assert refusal_delay_ms(job_of(), waited_ms=9_000, now=now, jitter=1.0) == 0
    assert refusal_delay_ms(job_of(), waited_ms=500, now=now, jitter=0.5) == 1_500 + ANSWER_SPREAD_MS // 2


async def test_rejections_do_not_make_the_next_submission_a_retry(step: Both):
    for _ in range(6):
        assert (await ended(step, Rest(REFUSED))).error.code == ErrorCode.BUDGET_EXCEEDED


async def test_a_job_given_back_to_its_lane_is_not_counted_again(step: Both):
    job = job_of()
    for _ in range(6):
        with pytest.raises(HandBack):
            await step.run(run_of(job), Rest(HandBack("later")))


async def test_content_that_is_answered_may_be_asked_again_freely(step: Both):
    await ended(step, Rest(FAILED))
    again = run_of()
    await step.run(again, Rest())
    assert again.resubmitted
    for _ in range(6):
        job_run = run_of()
        assert (await step.run(job_run, Rest())).text == "yes"
        assert not job_run.resubmitted


async def test_the_answer_goes_through_unchanged(step: Both):
    answer = answer_of("forty-two")
    assert await step.run(run_of(), Rest(answer)) is answer


def test_content_is_what_is_asked_and_nothing_else():
    same = content_hash(job_of())
    assert content_hash(job_of(run_id="r", metadata={"a": "b"}, priority=9, lane="batch")) == same
    for other in (
        job_of("bye"),
        job_of(params=GenerationParams(temperature=1)),
        job_of(prompt_version="2"),
        job_of(task="other"),
    ):
        assert content_hash(other) != same
    one, two = (job_of(messages=[], inputs=["a", text]) for text in ("b", "c"))
    assert content_hash(one) != content_hash(two)


async def test_a_large_job_is_hashed_off_the_loop_to_the_same_content(step: Both):
    job = job_of("x" * 200_000)
    await ended(step, Rest(FAILED), job=job, message=b"x" * 200_000)
    await step.run(run_of(job_of("x" * 200_000)), Rest())


def attempt_of(status: str) -> AttemptSummary:
    """An attempt of a job's list."""
    return AttemptSummary(
        attempt_id=uuid7(), number=1, provider="p", deployment="p/m", model="m", status=status
    )


async def refused_at_the_third(step: Both) -> None:
    """The content is known to have failed: two tokens are there, and no third."""
    for _ in range(2):
        assert (await ended(step, Rest(REFUSED))).error.code == ErrorCode.BUDGET_EXCEEDED
    assert (await ended(step, Rest())).error.reason == "resubmitted"


@pytest.mark.parametrize("code", [ErrorCode.RETRY_CAP, ErrorCode.INVALID_JOB, ErrorCode.COST_LIMIT])
async def test_a_job_refused_after_a_call_has_failed(step: Both, code: ErrorCode):
    await ended(step, Rest(JobStopped.of(code, "no")), attempts=[attempt_of("failed")])
    await refused_at_the_third(step)


async def test_an_attempt_that_was_never_sent_is_no_call(step: Both):
    for _ in range(6):
        await ended(step, Rest(REFUSED), attempts=[attempt_of("void")])


async def test_what_breaks_the_worker_has_failed(step: Both):
    with pytest.raises(ZeroDivisionError):
        await step.run(run_of(), Rest(ZeroDivisionError()))
    await refused_at_the_third(step)


async def test_what_killed_its_workers_has_failed_though_it_is_never_counted_itself(step: Both):
    async def end_stopped(_job_run: JobRun) -> Answer:
        raise JobStopped.of(ErrorCode.INTERNAL, "delivered five times", reason="delivery_cap")

    with pytest.raises(JobStopped):
        await step.remember.run(run_of(), end_stopped)
    await refused_at_the_third(step)


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), HandBack("later"), redis.TimeoutError()])
async def test_a_server_that_is_away_is_no_failure_of_the_job(step: Both, error: Exception):
    for _ in range(6):
        with pytest.raises(type(error)):
            await step.run(run_of(), Rest(error))


async def interrupted(step: Both, why: str) -> None:
    """The job's task is cancelled while its call is open."""
    job_run, is_open = run_of(), asyncio.Event()

    async def call(_job_run: JobRun) -> Answer:
        is_open.set()
        await asyncio.sleep(60)
        raise AssertionError("nobody has closed the call")

    task = asyncio.create_task(step.run(job_run, call))
    await is_open.wait()
    job_run.interruption = why
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_job_that_ran_into_its_time_limit_has_failed(step: Both):
    await interrupted(step, "soft_limit")
    await refused_at_the_third(step)


@pytest.mark.parametrize("why", ["cancelled", "shutdown", "lost"])
async def test_a_job_that_was_cancelled_or_given_back_has_not_failed(step: Both, why: str):
    for _ in range(6):
        await interrupted(step, why)


async def test_a_replay_that_has_waited_for_a_day_is_refused(step: Both):
    for _ in range(3):
        await ended(step, Rest(FAILED))
    replay = job_of(metadata={"replay_of": "the failed one"})
    assert (await ended(step, Rest(), job=replay, queue_ms=86_400_000)).error.code == ErrorCode.RETRY_CAP


async def test_a_humans_replay_waits_for_a_token_and_is_not_refused(step: Both):
    await ended(step, Rest(FAILED))
    for _ in range(2):
        await ended(step, Rest(FAILED))
    rest = Rest()
    with pytest.raises(HandBack) as back:
        await step.run(run_of(job_of(metadata={"replay_of": "the dead one"})), rest)
    assert 75_000 < back.value.delay_ms <= 90_000  # 30 s until a token, spread over one to five times that
    assert rest.saw == []
