"""CapRetries and RememberFailures: whoever repeats a job, Celery or an agent, pays from the tenant's retry budget."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import redis.exceptions

from producer_sdk.contract import ErrorCode
from worker.errors import HandBack, JobStopped
from worker.job_run import Answer, JobRun, ProceedJob, utc_now
from worker.retries import rules
from worker.retries.store import RetryBudget, RetryGrant

LARGE_BYTES = 100_000


class RememberFailures:
    """Remember the content of a job that fails, however it fails: the same content under another id is a retry."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises whatever the rest raises. The job has ended, whatever Redis can note of it."""
        try:
            return await proceed(job_run)
        except BaseException as error:
            if _has_failed(job_run, error):
                with suppress(redis.exceptions.RedisError):
                    content = await _content(job_run)
                    await self._budget.remember_failure(
                        job_run.job.tenant, job_id=str(job_run.job_id), content=content
                    )
            raise


def _has_failed(job_run: JobRun, error: BaseException) -> bool:
    if isinstance(error, JobStopped):
        return rules.is_failure(error.error.code, job_run.attempts)
    if isinstance(error, asyncio.CancelledError):
        return job_run.interruption == "soft_limit"
    return not job_run.comes_again(error)  # what is left is a fault of the worker's own


class CapRetries:
    """Count the job as a first attempt or a retry before it runs.

    A redelivery after a lost worker is the same operation, so it is counted once and never refused for it.
    """

    def __init__(self, budget: RetryBudget, *, jitter: Callable[[], float] = random.random) -> None:
        self._budget = budget
        self._jitter = jitter

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped (retry_cap, with the seconds to wait) when the tenant's budget is empty.

        Before that HandBack, where the job waits in its lane: a resubmission for its refusal, a replay for a token.
        """
        tenant, content = job_run.known_tenant(), await _content(job_run)
        grant = await self._budget.begin(
            tenant.name,
            job_id=str(job_run.job_id),
            retries=job_run.retries,
            content=content,
            floor_per_min=tenant.tier.retries_per_min,
        )
        job_run.resubmitted = grant.resubmitted
        if grant.resubmitted or job_run.retries or not grant.allowed:
            why = "resubmitted" if grant.resubmitted else "retried"
            job_run.story.note("retries", "paid" if grant.allowed else "refused", why=why)
        if not grant.allowed:
            raise self._refused(job_run, grant)
        answer = await proceed(job_run)
        if grant.resubmitted:
            await self._budget.forget_failure(tenant.name, content=content)
        return answer

    def _refused(self, job_run: JobRun, grant: RetryGrant) -> JobStopped | HandBack:
        if rules.may_wait(job_run.job, grant.retry_after_s, waited_ms=job_run.queue_ms):
            wait_s = rules.replay_wait_s(grant.retry_after_s, jitter=self._jitter())
            return HandBack("a replay waits for a token of the retry budget", delay_ms=int(wait_s * 1000))
        if grant.resubmitted:
            delay_ms = rules.refusal_delay_ms(
                job_run.job, waited_ms=job_run.queue_ms, now=utc_now(), jitter=self._jitter()
            )
            if delay_ms:
                return HandBack("a resubmission is not refused at once", delay_ms=delay_ms)
        tenant = job_run.known_tenant()
        return JobStopped.of(
            ErrorCode.RETRY_CAP,
            f"tenant '{tenant.name}' has used up its retries (tier '{tenant.tier.name}'): "
            f"wait {grant.retry_after_s:.0f} s, and find out why the same work fails",
            reason="resubmitted" if grant.resubmitted else "retried",
            retry_after_s=grant.retry_after_s,
        )


async def _content(job_run: JobRun) -> str:
    if len(job_run.message) > LARGE_BYTES:
        return await asyncio.to_thread(rules.content_hash, job_run.job)
    return rules.content_hash(job_run.job)
