"""RecordJob and JournalAttempt: what SQL knows of a job and of each attempt, before and after."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from producer_sdk.contract import JobResult
from worker.errors import JobInterrupted, JobStopped, LedgerUnavailable, ProviderError
from worker.job_run import Answer, Attempt, JobRun, ProceedAttempt, ProceedJob
from worker.ledger import outcomes
from worker.ledger.ledger import Ledger, Settlement
from worker.ledger.records import RETURNING
from worker.story import read

T = TypeVar("T")
MOST_TRIES = 3
logger = logging.getLogger(__name__)


class RecordJob:
    """Read the job's final row first: what has ended is never called again. Write it last, once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """The answer whose `standing` is the result to publish. What interrupts a job ends it nowhere."""
        known = await self._ledger.look_up(job_run.job_id)
        if known.final is not None:
            return outcomes.answer_of(known.final)
        job_run.unresolved_attempts = known.unresolved
        if known.story:
            job_run.story.follow(read(known.story))
        if known.unresolved:
            job_run.story.note("attempt", "unresolved", attempts=known.unresolved)
        job_run.spent_pico += known.spent_pico
        try:
            answer = await proceed(job_run)
        except JobStopped as stopped:
            error = outcomes.end_of(stopped.error, unresolved_attempts=known.unresolved)
            return outcomes.answer_of(await self._ledger.finish(job_run, job_run.ended(error)))
        if answer.standing is not None:
            return answer
        standing = await self._ledger.finish(job_run, job_run.result_of(answer), answer=answer)
        return replace(answer, standing=standing)


class JournalAttempt:
    """Commit the attempt before its call; settle it after, with its job's final row when it was answered."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """Raises JournalRefused before the call, and whatever the call raises after it is settled."""
        began = time.monotonic()
        try:
            attempt.job_run.story.note("attempt", "journalled", **outcomes.begun(attempt))
            await self._ledger.journal(attempt, worst_pico=attempt.call.highest_pico)
            answer = await proceed(attempt)
        except ProviderError as error:
            settlement = outcomes.of_failure(attempt, error, latency_ms=_since(began))
            await self._to_the_end(self._settle(attempt, settlement))
            raise
        except (asyncio.CancelledError, JobInterrupted, JobStopped) as error:
            settlement = outcomes.of_interruption(attempt, error, latency_ms=_since(began))
            await self._give_up(attempt, settlement)
            raise
        return await self._to_the_end(self._answered(attempt, answer))

    async def _answered(self, attempt: Attempt, answer: Answer) -> Answer:
        settlement = outcomes.of_answer(attempt, answer)
        outcomes.note(attempt, settlement)
        final = attempt.job_run.result_of(answer)
        standing = await self._written(attempt, settlement, final=final)
        return replace(answer, cost_pico=settlement.cost_pico, standing=standing)

    async def _settle(self, attempt: Attempt, settlement: Settlement) -> None:
        outcomes.note(attempt, settlement)
        await self._written(attempt, settlement)

    async def _written(
        self, attempt: Attempt, settlement: Settlement, *, final: JobResult | None = None
    ) -> JobResult | None:
        """A call that was made is worth more patience than one that is not begun yet: a database may fail over."""
        for tries_left in reversed(range(MOST_TRIES if attempt.sent else 1)):
            try:
                standing = await self._ledger.settle(attempt, settlement, final=final)
                break
            except LedgerUnavailable:
                if not tries_left:
                    raise
        attempt.settled_pico = settlement.cost_pico
        attempt.returns_share = settlement.state in RETURNING
        return standing

    async def _give_up(self, attempt: Attempt, settlement: Settlement) -> None:
        """What cannot be written down now, the reaper will."""
        try:
            await self._to_the_end(self._settle(attempt, settlement))
        except LedgerUnavailable as error:
            logger.warning("attempt %s is left to the reaper: %s", attempt.id, error)

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Finish writing before a cancellation takes effect: the call was paid. The ledger keeps its own time."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            if not task.cancelled() and task.exception():
                logger.warning("an attempt is left to the reaper: %s", task.exception())
            raise


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
