"""CapRun: an agent run has so many jobs, so deep, so long, and none of them without end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import redis.exceptions

from producer_sdk.contract import Job
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, ProceedJob
from worker.runs import rules
from worker.runs.store import Runs

LARGE_BYTES = 100_000


class CapRun:
    """Count the job into its run and those above before it runs; while it is under way, a stop of the run finds it."""

    def __init__(self, runs: Runs, *, above: Callable[[Job], Awaitable[tuple[str, ...]]]) -> None:
        """`above`: a job's run and those above it, the nearest first; none for a job of no run."""
        self._runs = runs
        self._above = above

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped: run_cap, loop_detected, or cancelled where the run was stopped while the job waited."""
        job, tenant = job_run.job, job_run.known_tenant()
        runs = await self._above(job)
        too_deep = rules.too_deep(job, runs, tenant.tier)
        if too_deep is not None:
            job_run.story.note("run", "refused", code=str(too_deep.code), reason=too_deep.reason)
            raise JobStopped(too_deep)
        if not runs:
            return await proceed(job_run)
        met = await self._runs.begin(
            tenant.name,
            runs,
            job_id=str(job_run.job_id),
            put_ms=job_run.put_ms,
            tier=tenant.tier,
            sameness=await _sameness(job_run),
        )
        if met is not None:
            await self._end(job_run, runs)
            stopped = rules.end_of(met, tenant.tier)
            job_run.story.note("run", "refused", code=str(stopped.code), reason=stopped.reason)
            raise JobStopped(stopped)
        job_run.story.note("run", "counted", runs=list(runs))
        try:
            answer = await proceed(job_run)
        except BaseException as error:
            if not job_run.comes_again(error):
                await self._end(job_run, runs)
            raise
        await self._end(job_run, runs)
        return answer

    async def _end(self, job_run: JobRun, runs: tuple[str, ...]) -> None:
        """A job that Redis does not hear of stays in the run's set until that expires: a stop asks for it in vain."""
        with suppress(redis.exceptions.RedisError):
            await self._runs.end(job_run.known_tenant().name, runs, job_id=str(job_run.job_id))


async def _sameness(job_run: JobRun) -> rules.Sameness | None:
    if job_run.known_tenant().tier.run_max_repeats is None:
        return None
    if len(job_run.message) > LARGE_BYTES:
        return await asyncio.to_thread(rules.sameness, job_run.job)
    return rules.sameness(job_run.job)
