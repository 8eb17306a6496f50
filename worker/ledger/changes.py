"""Every change that the steps and the reaper make to the ledger, each decided on locked rows, in order of arrival."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Connection

from producer_sdk.contract import JobResult
from worker.errors import JournalRefused, LedgerUnavailable
from worker.ledger import rules
from worker.ledger.page import Page, read_page
from worker.ledger.records import SettledAttempt, Settlement
from worker.ledger.rows import AttemptRow, JobRow, tombstone


class Change(ABC):
    """One change. `attempt_ids` and `job_ids` are the rows that it reads, whether they exist or not."""

    writes: ClassVar[bool] = True
    group: ClassVar[str] = "changes"
    reads_epoch: bool = False
    size_bytes: int = 0
    attempt_ids: Sequence[UUID] = ()
    job_ids: Sequence[UUID] = ()

    @abstractmethod
    def apply(self, page: Page) -> Any:
        """Change the page; returns what the caller gets, or the WorkerError that is raised to it."""

    def together(self, connection: Connection, changes: Sequence[Change]) -> list[Any]:
        """Apply all of them to one page, in order, and write it."""
        page = read_page(
            connection,
            attempt_ids=list({key for change in changes for key in change.attempt_ids}),
            job_ids=list({key for change in changes for key in change.job_ids}),
            with_epoch=any(change.reads_epoch for change in changes),
        )
        outcomes = [change.apply(page) for change in changes]
        page.write(connection)
        return outcomes


@dataclass
class Journal(Change):
    """Write an attempt down as in flight, and its job's message with the first one."""

    row: AttemptRow
    job: JobRow

    def __post_init__(self) -> None:
        self.attempt_ids, self.job_ids = [self.row.id], [self.job.job_id]
        self.reads_epoch, self.size_bytes = bool(self.row.windows), len(self.job.message or b"")

    def apply(self, page: Page) -> JournalRefused | None:
        """Refused by a tombstone, or by an epoch that has passed."""
        present = page.attempts.get(self.row.id)
        why = rules.refusal(present, self.row, epoch=page.epoch)
        if why:
            return JournalRefused(f"attempt {self.row.id} is not journalled: {why}")
        page.attempts[self.row.id] = present or self.row
        known = page.jobs.setdefault(self.job.job_id, self.job)
        if known.status is None and known is not self.job:
            page.jobs[self.job.job_id] = replace(known, story=self.job.story)
        return None


@dataclass
class Settle(Change):
    """Settle an attempt once, with its usage row; `final` ends its job, once.

    `row` is the attempt as it was journalled: a database that was restored may have lost it, and the call was paid.
    """

    row: AttemptRow
    settlement: Settlement
    job: JobRow
    now: datetime
    final: JobResult | None = None

    def __post_init__(self) -> None:
        self.attempt_ids = [self.row.id]
        self.job_ids = [self.job.job_id] if self.final else []
        self.size_bytes = len(self.final.text) if self.final else 0

    def apply(self, page: Page) -> JobResult | LedgerUnavailable | None:
        """The job's standing result, if `final` was given."""
        before = page.attempts.get(self.row.id, self.row)
        after = rules.settled(before, self.settlement, now=self.now)
        if after is not before:
            page.settle(after, self.settlement)
        if self.final is None:
            return None
        return ended(page, self.job, self.final, now=self.now)[0]


@dataclass
class Finish(Change):
    """End a job once; a job that a cache answered gets its usage row with it."""

    job: JobRow
    final: JobResult
    now: datetime
    hit: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.job_ids, self.size_bytes = [self.job.job_id], len(self.final.text)

    def apply(self, page: Page) -> JobResult | LedgerUnavailable:
        """The job's standing result."""
        standing, is_first = ended(page, self.job, self.final, now=self.now)
        if is_first and self.hit is not None:
            page.add_hit(self.hit)
        return standing


@dataclass
class MarkUncertain(Change):
    """Settle what is in flight at its worst case, for nobody is left who knows better."""

    ids: Sequence[UUID]
    now: datetime

    def __post_init__(self) -> None:
        self.attempt_ids = self.ids

    def apply(self, page: Page) -> list[SettledAttempt]:
        """Those that are uncertain now."""
        unknown = Settlement("uncertain", 0)
        done = []
        for attempt_id in self.ids:
            before = page.attempts.get(attempt_id)
            if before is None:
                continue
            after = rules.settled(before, unknown, now=self.now)
            if after is not before:
                page.settle(after, unknown)
            if after.state == "uncertain":
                settled_at = after.settled_at or self.now
                done.append(SettledAttempt(after.id, after.cost_pico, after.windows, settled_at, after.state))
        return done


@dataclass
class Reconcile(Change):
    """Somebody knows what uncertain attempts cost after all: the provider's own export, most likely."""

    known: Mapping[UUID, Settlement]
    now: datetime

    def __post_init__(self) -> None:
        self.attempt_ids = list(self.known)

    def apply(self, page: Page) -> dict[UUID, str]:
        """`reconciled`, or the state in which an attempt was left as it is; `unknown` without a row."""
        outcomes: dict[UUID, str] = {}
        for attempt_id, settlement in self.known.items():
            before = page.attempts.get(attempt_id)
            if before is None or before.state != "uncertain":
                outcomes[attempt_id] = before.state if before else "unknown"
                continue
            page.settle(rules.settled(before, settlement, now=self.now), settlement)
            outcomes[attempt_id] = "reconciled"
        return outcomes


@dataclass
class MakeVoid(Change):
    """Write tombstones for attempts without a row, so that their own rows are refused."""

    ids: Sequence[UUID]
    now: datetime

    def __post_init__(self) -> None:
        self.attempt_ids = self.ids

    def apply(self, page: Page) -> list[UUID]:
        """Those that are void now."""
        for attempt_id in self.ids:
            page.attempts.setdefault(attempt_id, tombstone(attempt_id, now=self.now))
        return [key for key in self.ids if page.attempts[key].state == "void"]


@dataclass
class Mirror(Change):
    """Redis has confirmed these amounts: attempt id to (epoch, pico-dollars)."""

    confirmed: Mapping[UUID, tuple[int, int]]

    def __post_init__(self) -> None:
        self.attempt_ids, self.reads_epoch = list(self.confirmed), True

    def apply(self, page: Page) -> None:
        """Mark the rows whose amount is still that."""
        for attempt_id, (epoch, amount_pico) in self.confirmed.items():
            row = page.attempts.get(attempt_id)
            if row is not None:
                page.attempts[attempt_id] = rules.mirrored(
                    row, epoch=epoch, amount_pico=amount_pico, in_force=page.epoch
                )


def ended(
    page: Page, job: JobRow, final: JobResult, *, now: datetime
) -> tuple[JobResult | LedgerUnavailable, bool]:
    """The job's standing result, and whether it is this one: the first that comes stands."""
    row = page.jobs.get(job.job_id, job)
    standing = row.standing()
    if standing is not None:
        return standing, False
    page.jobs[job.job_id] = replace(row, status=final.status, result=final, finished_at=now, story=job.story)
    return final, True
