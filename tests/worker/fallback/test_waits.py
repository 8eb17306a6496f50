"""What CallWithFallback waits for, and where: real attempts, the real retry budget on a real Valkey."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from producer_sdk.contract import ErrorCode
from tests.worker.fallback.chains import called, dearer, ended, error, planned, tried
from tests.worker.job_runs import Rest, answer_of, job_of
from worker.errors import DeploymentUnavailable, HandBack, JobStopped
from worker.errors import FailureKind as Kind
from worker.fallback.step import CallWithFallback
from worker.job_run import utc_now


async def test_interleaving_27_a_long_retry_after_gives_the_slot_back(retry_budget):
    with pytest.raises(HandBack) as back:
        await called(planned("a"), Rest(error(Kind.RATE_LIMITED, retry_after_s=5.0)), retry_budget)
    assert back.value.delay_ms == 5001


async def test_a_short_retry_after_is_waited_for_in_the_slot_and_costs_no_retry(retry_budget):
    attempts = Rest(error(Kind.RATE_LIMITED, retry_after_s=0.05), answer_of())
    began = time.monotonic()
    await called(planned("a"), attempts, retry_budget)
    assert time.monotonic() - began >= 0.05
    assert tried(attempts) == ["a", "a"]


async def test_a_retry_after_past_the_deadline_goes_to_the_next_or_ends(retry_budget):
    limited = error(Kind.RATE_LIMITED, retry_after_s=60.0)
    attempts = Rest(limited, answer_of())
    await called(planned("a", "b"), attempts, retry_budget)
    assert tried(attempts) == ["a", "b"]
    soon = job_of(deadline=utc_now() + timedelta(seconds=30))
    found = await ended(planned("a", job=soon), Rest(limited), retry_budget)
    assert (found.code, found.retry_after_s) == (ErrorCode.PROVIDER_UNAVAILABLE, 60.0)


async def test_a_short_wait_for_the_last_deployment_is_made_in_the_slot_three_times(retry_budget):
    full = DeploymentUnavailable("a is full", wait_s=0.01)
    attempts = Rest(full, full, answer_of())
    assert (await called(planned("a"), attempts, retry_budget)).text == "yes"
    with pytest.raises(HandBack):
        await called(planned("a"), attempts := Rest(full), retry_budget)
    assert len(attempts.saw) == 4


async def test_a_job_that_was_called_after_a_wait_ends_as_that_call_did(retry_budget):
    full = DeploymentUnavailable("a is full", wait_s=0.01)
    for kind in (Kind.AUTH, Kind.QUOTA_EXHAUSTED):
        stopped = await ended(planned("a"), Rest(full, error(kind)), retry_budget)
        assert (stopped.code, stopped.reason) == (ErrorCode.PROVIDER_UNAVAILABLE, kind)


async def test_a_chain_that_may_be_billed_waits_for_its_retry_in_its_slot(retry_budget):
    broken = error(Kind.STREAM_BROKEN, billed="unknown")
    attempts = Rest(broken, DeploymentUnavailable("a: cooling", wait_s=1.1), answer_of())
    assert (await called(planned("a"), attempts, retry_budget)).text == "yes"
    assert tried(attempts) == ["a", "a", "a"]


async def test_a_chain_whose_time_ends_while_it_waits_says_what_it_waited_for(retry_budget):
    broken = error(Kind.STREAM_BROKEN, billed="unknown")
    full = DeploymentUnavailable("a: full: 5 of 5 calls under way", wait_s=0.25)
    job_run = planned("a", deadline=time.monotonic() + 0.9)
    found = await ended(job_run, Rest(broken, full), retry_budget)
    assert (found.code, found.reason) == (ErrorCode.PROVIDER_UNAVAILABLE, "stream_broken")
    assert "no other attempt: a: full: 5 of 5 calls under way" in found.message


async def test_no_wait_lasts_longer_than_the_chain(retry_budget):
    broken = error(Kind.STREAM_BROKEN, billed="unknown")
    attempts = Rest(broken, DeploymentUnavailable("a: cooling", wait_s=1.2))
    step = CallWithFallback(
        proceed_attempt=attempts, retry_budget=retry_budget, follow_up=dearer, jitter=lambda: 1.0
    )
    deadline = time.monotonic() + 2.4
    with pytest.raises(JobStopped) as stopped:
        await step.run(planned("a", deadline=deadline), Rest())
    assert (stopped.value.error.reason, time.monotonic() < deadline) == ("stream_broken", True)


async def test_a_wait_for_a_429_is_not_the_one_retry_of_a_failure(retry_budget):
    limited, broken = error(Kind.RATE_LIMITED, retry_after_s=0.01), error(Kind.STREAM_BROKEN)
    attempts = Rest(limited, broken, answer_of())
    assert (await called(planned("a"), attempts, retry_budget)).text == "yes"
    assert (
        await ended(planned("a"), Rest(limited, broken, limited, broken), retry_budget)
    ).reason == "stream_broken"
