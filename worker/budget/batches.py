"""HoldBatches: a batch's sum is held before its first line, and what is left of it given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from producer_sdk.contract import ErrorCode, Job, to_usd
from producer_sdk.contract.control import BatchReserved, ConfirmBatches, ReleaseBatches, ReserveBatch
from worker.budget import rules
from worker.budget.records import BatchName, ClockApart, NeedsRebuild, Refused, Reserved
from worker.budget.rules import WindowLimit
from worker.budget.store import BudgetStore
from worker.errors import BudgetUnavailable, HandBack, JobStopped, LedgerUnavailable
from worker.job_run import JobRun, utc_now

MOST_TRIES = 3
AGAIN_MS = 1000


class BatchRow(Protocol):
    """A batch as it stands in SQL."""

    @property
    def reserved_pico(self) -> int:
        """Its sum."""
        ...

    @property
    def lines(self) -> int:
        """How many are to come."""
        ...

    @property
    def expires_at(self) -> datetime:
        """When it ends at the latest."""
        ...


class BatchRows(Protocol):
    """What this room needs of the ledger: rooms do not import each other."""

    async def open_batch(
        self,
        batch_id: UUID,
        *,
        tenant: str,
        reserved_pico: int,
        lines: int,
        windows: tuple[str, ...],
        expires_at: datetime,
        epoch: int,
    ) -> BatchRow | Literal["closed", "old_epoch"]:
        """Commit a batch before its lines; the one that stands."""
        ...

    async def confirm_batches(self, lines: Mapping[UUID, int], *, tenant: str, expires_at: datetime) -> None:
        """So many lines are to come, until then."""
        ...

    async def give_up_batches(self, ids: Sequence[UUID], *, tenant: str) -> list[UUID]:
        """Close batches, or let them never be opened; those of `ids` that are closed now."""
        ...


class HoldBatches:
    """Answers the control jobs about batches. A batch's id is that of the job that reserved it."""

    def __init__(
        self,
        *,
        store: BudgetStore,
        rows: BatchRows,
        rebuild: Callable[[], Awaitable[None]],
        highest: Callable[[JobRun], Awaitable[int]],
        runs: Callable[[Job], Awaitable[tuple[str, ...]]],
    ) -> None:
        """`highest`: the most that one attempt of a job may cost, in pico-dollars; 0 where it would not be called.

        `runs`: a job's run and those above it.
        """
        self._store = store
        self._rows = rows
        self._rebuild = rebuild
        self._highest = highest
        self._runs = runs

    async def reserve(self, job_run: JobRun, question: ReserveBatch) -> BatchReserved:
        """Hold the sum, or raise JobStopped (budget_exceeded) that says how much is missing."""
        tenant, lines = job_run.known_tenant(), question.lines
        if any(line.tenant != tenant.name for line in lines):
            raise JobStopped.of(ErrorCode.INVALID_JOB, "a batch is of one tenant: reserve for each apart")
        try:
            windows = rules.windows(tenant, utc_now(), await self._spender(job_run, lines))
            total = await self._sum(job_run, lines) if windows else 0
            deadline, now = job_run.job.deadline, utc_now()
            if deadline and deadline <= now:
                raise JobStopped.of(ErrorCode.EXPIRED, "nobody waits for this batch any more: ask again")
            expires_at = now + timedelta(seconds=question.for_s)
            answer = BatchReserved(
                batch_id=job_run.job_id, lines=len(lines), reserved_usd=to_usd(0), expires_at=expires_at
            )
            return await self._opened(tenant.name, answer, windows, total) if total else answer
        except (BudgetUnavailable, LedgerUnavailable) as error:
            raise HandBack("the budget cannot be checked now", delay_ms=AGAIN_MS) from error

    async def _spender(self, job_run: JobRun, lines: Sequence[Job]) -> rules.Spender:
        """What all lines have in common. Where they differ each line needs room of its own, and at its provider."""
        features = {line.feature for line in lines}
        named = {(line.run_id, line.parent_run_id): line for line in lines}
        limits_runs = job_run.known_tenant().tier.run_budget_usd is not None
        return rules.Spender(
            feature=features.pop() if len(features) == 1 else None,
            runs=await self._runs(lines[0]) if limits_runs and len(named) == 1 else (),
            fleet=job_run.routing.fleet,
        )

    async def _sum(self, job_run: JobRun, lines: Sequence[Job]) -> int:
        total = 0
        for line in lines:
            total += await self._highest(JobRun(line, job_run.lease, job_run.routing))
            await asyncio.sleep(0)  # a thousand lines must not hold up the other jobs
        return total

    async def _opened(
        self, tenant: str, asked: BatchReserved, windows: tuple[WindowLimit, ...], total: int
    ) -> BatchReserved:
        name = BatchName(tenant, asked.batch_id)
        for _ in range(MOST_TRIES):
            answer = await self._store.open_batch(name, amount_pico=total, windows=windows, now=utc_now())
            match answer:
                case NeedsRebuild():
                    await self._rebuild()
                case ClockApart():
                    raise HandBack("this worker's clock is wrong", delay_ms=AGAIN_MS)
                case Refused(window, settled, held):
                    raise JobStopped(
                        rules.batch_refusal(
                            tenant, window, settled_pico=settled, held_pico=held, amount_pico=total
                        )
                    )
                case Reserved(epoch, covered):
                    stands = await self._rows.open_batch(
                        name.id,
                        tenant=tenant,
                        reserved_pico=total,
                        lines=asked.lines,
                        windows=covered,
                        expires_at=asked.expires_at,
                        epoch=epoch,
                    )
                    if not isinstance(stands, str):
                        return _told(asked.batch_id, stands)
                    await self._store.close_batches([name])
                    if stands == "closed":
                        raise _given_up()
                    await self._rebuild()
        raise HandBack("the budget's books could not be rebuilt", delay_ms=AGAIN_MS)

    async def confirm(self, job_run: JobRun, question: ConfirmBatches) -> ConfirmBatches:
        """Hold batches for as long as their producer asks, for so many lines; those without a line end."""
        tenant, counted = job_run.known_tenant().name, {i: n for i, n in question.batches.items() if n}
        expires_at = utc_now() + timedelta(seconds=question.for_s)
        try:
            await self._rows.confirm_batches(counted, tenant=tenant, expires_at=expires_at)
        except LedgerUnavailable as error:
            raise HandBack("the ledger is away", delay_ms=AGAIN_MS) from error
        await self._give_up(tenant, [batch_id for batch_id in question.batches if batch_id not in counted])
        return question

    async def release(self, job_run: JobRun, question: ReleaseBatches) -> ReleaseBatches:
        """Close batches in SQL, then in Redis."""
        await self._give_up(job_run.known_tenant().name, question.batches)
        return question

    async def _give_up(self, tenant: str, ids: Sequence[UUID]) -> None:
        try:
            closed = await self._rows.give_up_batches(ids, tenant=tenant) if ids else []
            if closed:
                await self._store.close_batches([BatchName(tenant, batch_id) for batch_id in closed])
        except (BudgetUnavailable, LedgerUnavailable) as error:
            raise HandBack("the budget cannot be reached now", delay_ms=AGAIN_MS) from error


def _told(batch_id: UUID, row: BatchRow) -> BatchReserved:
    """As it stands: who asks again is told what is held, not what it would be now."""
    usd = to_usd(row.reserved_pico)
    return BatchReserved(batch_id=batch_id, lines=row.lines, reserved_usd=usd, expires_at=row.expires_at)


def _given_up() -> JobStopped:
    return JobStopped.of(
        ErrorCode.INTERNAL,
        "the batch was given up while it was opened: submit it again",
        reason="batch_closed",
        retryable=True,
    )
