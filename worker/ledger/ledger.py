"""Ledger: the typed face of the database. Every method is one operation of the writer's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from producer_sdk.contract import Crossing, JobResult, Straight
from worker.job_run import Answer, Attempt, JobRun
from worker.ledger.records import KnownJob, OpenAttempt, RebuildSums, SettledAttempt, Settlement

__all__ = ["KnownJob", "Ledger", "OpenAttempt", "RebuildSums", "SettledAttempt", "Settlement"]


class Ledger:
    """Every awaited method raises LedgerUnavailable when the database does not answer within `timeout_s`."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, crossing: Crossing | None = None) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._crossing = crossing or Straight()

    def migrate(self) -> None:
        """Bring the tables up to date; any number of processes may do so at once. Blocks."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the writer."""
        raise NotImplementedError

    async def close(self) -> None:
        """Write what waits, then end the writer."""
        raise NotImplementedError

    async def look_up(self, job_id: UUID) -> KnownJob:
        """What earlier deliveries of a job have left."""
        raise NotImplementedError

    async def journal(self, attempt: Attempt, *, worst_pico: int) -> None:
        """Commit the attempt as in flight, before its call. Raises JournalRefused."""
        raise NotImplementedError

    async def settle(
        self, attempt: Attempt, settlement: Settlement, *, final: JobResult | None = None
    ) -> JobResult | None:
        """Settle an attempt once; with `final`, also end its job once. Returns the job's standing result."""
        raise NotImplementedError

    async def finish(self, job_run: JobRun, result: JobResult, *, answer: Answer | None = None) -> JobResult:
        """End a job once; returns the result that stands."""
        raise NotImplementedError

    async def mirrored(self, settled: Mapping[UUID, tuple[int, int]]) -> None:
        """Redis has these amounts: attempt id to (epoch, pico-dollars)."""
        raise NotImplementedError

    async def in_flight(self, *, limit: int = 500, after: UUID | None = None) -> list[OpenAttempt]:
        """Attempts that have not ended, oldest first."""
        raise NotImplementedError

    async def unmirrored(self, *, limit: int = 500, after: UUID | None = None) -> list[SettledAttempt]:
        """Settled attempts that Redis has not confirmed, oldest first."""
        raise NotImplementedError

    async def mark_uncertain(self, ids: Sequence[UUID]) -> list[SettledAttempt]:
        """Settle attempts in flight as uncertain; returns those of `ids` that are uncertain now."""
        raise NotImplementedError

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """The states of those attempts that have a row."""
        raise NotImplementedError

    async def void(self, ids: Sequence[UUID]) -> list[UUID]:
        """Refuse these attempts' journal rows for ever; returns those that are void now."""
        raise NotImplementedError

    async def epoch(self) -> int:
        """The epoch in force."""
        raise NotImplementedError

    async def rebuild_sums(self, *, since: datetime, above: int = 0) -> RebuildSums:
        """Raise the epoch over its own and `above`, and count every window anew."""
        raise NotImplementedError

    async def purge_content(self, *, finished_before: datetime) -> int:
        """Forget requests and answers of jobs that ended before; returns how many jobs."""
        raise NotImplementedError
