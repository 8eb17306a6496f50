"""CapRun: an agent run has so many jobs, so deep, so long, and none of them without end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

import redis.exceptions

from producer_sdk.contract import Job
from producer_sdk.contract.envelope import BadMessage, read_job, unpack
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, ProceedJob, utc_now
from worker.routing_file import Tier
from worker.runs import rules
from worker.runs.store import Runs, Unknown, life_ms

LARGE_BYTES = 100_000


class History(Protocol):
    """What the ledger knows of a run and those below it."""

    @property
    def calls(self) -> int:
        """Jobs that have begun."""
        ...

    @property
    def began(self) -> datetime | None:
        """When the first of them did."""
        ...

    @property
    def under_way(self) -> Sequence[str]:
        """Those that have not ended."""
        ...

    @property
    def messages(self) -> Sequence[bytes]:
        """The newest, oldest first, as they came."""
        ...


class ReadHistory(Protocol):
    """Who reads it."""

    async def __call__(self, tenant: str, run_id: str, *, since: datetime, with_messages: bool) -> History:
        """Of a run whose last job is not of before `since`. Raises LedgerUnavailable."""
        ...


class CapRun:
    """Count the job into its run and those above before it runs; while it is under way, a stop of the run finds it."""

    def __init__(
        self, runs: Runs, *, above: Callable[[Job], Awaitable[tuple[str, ...]]], history: ReadHistory
    ) -> None:
        """`above`: a job's run and those above it, the nearest first; none for a job of no run.

        `history`: what the ledger knows of a run, for one that Redis does not know: it is new, or Redis was flushed.
        """
        self._runs = runs
        self._above = above
        self._history = history

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
        met = await self._met(job_run, runs)
        if not isinstance(met, rules.Met):
            job_run.run_calls_left = met
        else:
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

    async def _met(self, job_run: JobRun, runs: tuple[str, ...]) -> rules.Met | int | None:
        """The cap that the job meets; else it is counted, after whatever the ledger knows: how many more may follow."""
        tenant, sameness = job_run.known_tenant(), await _sameness(job_run)
        for are_new in (not _is_capped(tenant.tier), True):
            met = await self._runs.begin(
                tenant.name,
                runs,
                job_id=str(job_run.job_id),
                put_ms=job_run.put_ms,
                tier=tenant.tier,
                sameness=sameness,
                are_new=are_new,
            )
            if not isinstance(met, Unknown):
                return met
            for run_id in met.runs:  # not all of them: a large run has a long history to read
                await self._seed(tenant.name, run_id, tenant.tier)
        raise AssertionError("a run that is new is known")

    async def _seed(self, tenant: str, run_id: str, tier: Tier) -> None:
        since = utc_now() - timedelta(milliseconds=life_ms(tier))
        compared = tier.run_max_repeats is not None
        found = await self._history(tenant, run_id, since=since, with_messages=compared)
        if found.began is None:
            return
        await self._runs.seed(
            tenant,
            run_id,
            tier=tier,
            began_ms=int(found.began.timestamp() * 1000),
            calls=found.calls,
            requests=await asyncio.to_thread(_recounted, found.messages),
            job_ids=found.under_way,
        )

    async def _end(self, job_run: JobRun, runs: tuple[str, ...]) -> None:
        """A job that Redis does not hear of stays in the run's set until that expires: a stop asks for it in vain."""
        with suppress(redis.exceptions.RedisError):
            await self._runs.end(job_run.known_tenant().name, runs, job_id=str(job_run.job_id))


def _is_capped(tier: Tier) -> bool:
    return any((tier.run_max_calls, tier.run_max_seconds, tier.run_max_repeats))


def _recounted(messages: Sequence[bytes]) -> dict[str, tuple[int, int]]:
    requests = []
    for message in messages:
        with suppress(BadMessage):  # of a newer version, say
            requests.append(rules.sameness(read_job(unpack(message))))
    return rules.recounted(requests)


async def _sameness(job_run: JobRun) -> rules.Sameness | None:
    if job_run.known_tenant().tier.run_max_repeats is None:
        return None
    if len(job_run.message) > LARGE_BYTES:
        return await asyncio.to_thread(rules.sameness, job_run.job)
    return rules.sameness(job_run.job)
