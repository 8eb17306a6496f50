"""CapRetries on a real Valkey: who is counted, who is not, and what an empty budget says."""

from __future__ import annotations

import pytest
import redis.asyncio

from producer_sdk.contract import ErrorCode, GenerationParams
from tests.worker.job_runs import Rest, answer_of, job_of, run_of
from worker.errors import HandBack, JobStopped
from worker.retries.rules import content_hash
from worker.retries.step import CapRetries
from worker.retries.store import RetryBudget

FAILED = JobStopped.of(ErrorCode.PROVIDER_UNAVAILABLE, "all down")
REFUSED = JobStopped.of(ErrorCode.BUDGET_EXCEEDED, "no money")


@pytest.fixture
def step(client: redis.asyncio.Redis, namespace: str) -> CapRetries:
    return CapRetries(RetryBudget(client, namespace=namespace))


async def ended(step: CapRetries, rest: Rest, **fields) -> JobStopped:
    with pytest.raises(JobStopped) as stopped:
        await step.run(run_of(**fields), rest)
    return stopped.value


async def test_an_agent_that_resubmits_what_fails_is_stopped_at_its_tenants_cap(step: CapRetries):
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


async def test_celery_retries_are_counted_and_named(step: CapRetries):
    job = job_of()
    for retries in (1, 2):
        await step.run(run_of(job, retries=retries), Rest())
    assert (await ended(step, Rest(), job=job, retries=3)).error.reason == "retried"


async def test_rejections_do_not_make_the_next_submission_a_retry(step: CapRetries):
    for _ in range(6):
        assert (await ended(step, Rest(REFUSED))).error.code == ErrorCode.BUDGET_EXCEEDED


async def test_a_job_given_back_to_its_lane_is_not_counted_again(step: CapRetries):
    job = job_of()
    for _ in range(6):
        with pytest.raises(HandBack):
            await step.run(run_of(job), Rest(HandBack("later")))


async def test_content_that_is_answered_may_be_asked_again_freely(step: CapRetries):
    await ended(step, Rest(FAILED))
    await step.run(run_of(), Rest())
    for _ in range(6):
        assert (await step.run(run_of(), Rest())).text == "yes"


async def test_the_answer_goes_through_unchanged(step: CapRetries):
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


async def test_a_large_job_is_hashed_off_the_loop_to_the_same_content(step: CapRetries):
    job = job_of("x" * 200_000)
    await ended(step, Rest(FAILED), job=job, message=b"x" * 200_000)
    await step.run(run_of(job_of("x" * 200_000)), Rest())
