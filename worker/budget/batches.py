"""HoldBatches: a batch's sum is held before its first line, and what is left of it given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from producer_sdk.contract import ErrorCode, Job, to_usd
from producer_sdk.contract.control import BatchReserved, ReleaseBatches, ReserveBatch
from worker.budget import rules
from worker.budget.rules import WindowLimit
from worker.budget.store import BatchName, BudgetStore, ClockApart, NeedsRebuild, Refused, Reserved
from worker.errors import BudgetUnavailable, HandBack, JobStopped, LedgerUnavailable
from worker.job_run import JobRun, utc_now

MOST_TRIES = 3
AGAIN_MS = 1000


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
    ) -> Literal["open", "closed", "old_epoch"]:
        """Commit a batch before its lines; whether it stands."""
        ...

    async def close_batches(self, ids: Sequence[UUID], *, tenant: str | None = None) -> list[UUID]:
        """Close batches; those of `ids` that are closed now."""
        ...

    async def void_batches(self, tenant_of: Mapping[UUID, str]) -> None:
        """Refuse the rows of batches that have none, for ever."""
        ...

    async def count_lines(self, lines: Mapping[UUID, int], *, tenant: str) -> None:
        """So many lines are to come."""
        ...


class HoldBatches:
    """Answers the control jobs `fairlane.reserve` and `fairlane.release`. The batch's id is the job's."""

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
        tenant, lines, now = job_run.known_tenant(), question.lines, utc_now()
        if any(line.tenant != tenant.name for line in lines):
            raise JobStopped.of(ErrorCode.INVALID_JOB, "a batch is of one tenant: reserve for each apart")
        name = BatchName(tenant.name, job_run.job_id)
        expires_at = now + timedelta(seconds=question.for_s)
        try:
            windows = rules.windows(tenant, now, await self._spender(job_run, lines))
            total = await self._sum(job_run, lines) if windows else 0
            if total:
                await self._open(name, total, windows, lines=len(lines), expires_at=expires_at)
        except (BudgetUnavailable, LedgerUnavailable) as error:
            raise HandBack("the budget cannot be checked now", delay_ms=AGAIN_MS) from error
        return BatchReserved(
            batch_id=name.id, lines=len(lines), reserved_usd=to_usd(total), expires_at=expires_at
        )

    async def _spender(self, job_run: JobRun, lines: Sequence[Job]) -> rules.Spender:
        """What all lines have in common. Where they differ each line needs room of its own, and at its provider."""
        features = {line.feature for line in lines}
        runs = {await self._runs(line) for line in lines}
        return rules.Spender(
            feature=features.pop() if len(features) == 1 else None,
            runs=runs.pop() if len(runs) == 1 else (),
            fleet=job_run.routing.fleet,
        )

    async def _sum(self, job_run: JobRun, lines: Sequence[Job]) -> int:
        total = 0
        for line in lines:
            total += await self._highest(JobRun(line, job_run.lease, job_run.routing))
            await asyncio.sleep(0)  # a thousand lines must not hold up the other jobs
        return total

    async def _open(
        self,
        name: BatchName,
        total: int,
        windows: tuple[WindowLimit, ...],
        *,
        lines: int,
        expires_at: datetime,
    ) -> None:
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
                            name.tenant, window, settled_pico=settled, held_pico=held, amount_pico=total
                        )
                    )
                case Reserved(epoch, covered):
                    stands = await self._rows.open_batch(
                        name.id,
                        tenant=name.tenant,
                        reserved_pico=total,
                        lines=lines,
                        windows=covered,
                        expires_at=expires_at,
                        epoch=epoch,
                    )
                    if stands == "open":
                        return
                    await self._store.close_batches([name])
                    if stands == "closed":
                        raise _given_up()
                    await self._rebuild()
        raise HandBack("the budget's books could not be rebuilt", delay_ms=AGAIN_MS)

    async def release(self, job_run: JobRun, question: ReleaseBatches) -> ReleaseBatches:
        """Close batches in SQL, then in Redis; or take down how many lines are to come. Says what it did."""
        tenant = job_run.known_tenant().name
        over = [batch_id for batch_id, lines in question.batches.items() if not lines]
        counted = {batch_id: lines for batch_id, lines in question.batches.items() if lines}
        try:
            closed = await self._rows.close_batches(over, tenant=tenant) if over else []
            if len(closed) < len(
                over
            ):  # one may be about to be opened by a worker that nobody waits for any more
                await self._rows.void_batches(dict.fromkeys(set(over).difference(closed), tenant))
            if closed:
                await self._store.close_batches([BatchName(tenant, batch_id) for batch_id in closed])
            if counted:
                await self._rows.count_lines(counted, tenant=tenant)
        except (BudgetUnavailable, LedgerUnavailable) as error:
            raise HandBack("the budget cannot be reached now", delay_ms=AGAIN_MS) from error
        return question


def _given_up() -> JobStopped:
    return JobStopped.of(
        ErrorCode.INTERNAL,
        "the batch was given up while it was opened: submit it again",
        reason="batch_closed",
        retryable=True,
    )
