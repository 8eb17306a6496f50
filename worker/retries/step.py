"""CapRetries: whoever repeats a job, Celery or an agent, pays from the tenant's retry budget."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import redis.exceptions

from producer_sdk.contract import ErrorCode
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, ProceedJob
from worker.retries import rules
from worker.retries.store import RetryBudget

LARGE_BYTES = 100_000


class CapRetries:
    """Count the job as a first attempt or a retry before it runs; remember its content if it fails.

    A redelivery after a lost worker is the same operation, so it is counted once and never refused for it.
    """

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped (retry_cap, with the seconds to wait) when the tenant's budget is empty."""
        job, tenant = job_run.job, job_run.known_tenant()
        job_id, content = str(job_run.job_id), await self._content(job_run)
        grant = await self._budget.begin(
            tenant.name,
            job_id=job_id,
            retries=job_run.retries,
            content=content,
            floor_per_min=tenant.tier.retries_per_min,
        )
        if not grant.allowed:
            raise JobStopped.of(
                ErrorCode.RETRY_CAP,
                f"tenant '{job.tenant}' has used up its retries (tier '{tenant.tier.name}'): "
                f"wait {grant.retry_after_s:.0f} s, and find out why the same work fails",
                reason="resubmitted" if grant.resubmitted else "retried",
                retry_after_s=grant.retry_after_s,
            )
        try:
            answer = await proceed(job_run)
        except JobStopped as stopped:
            if rules.is_failure(stopped.error.code):
                with suppress(
                    redis.exceptions.RedisError
                ):  # the job has ended, whatever Redis can note of it
                    await self._budget.remember_failure(tenant.name, job_id=job_id, content=content)
            raise
        if grant.resubmitted:
            await self._budget.forget_failure(tenant.name, content=content)
        return answer

    async def _content(self, job_run: JobRun) -> str:
        if len(job_run.message) > LARGE_BYTES:
            return await asyncio.to_thread(rules.content_hash, job_run.job)
        return rules.content_hash(job_run.job)
