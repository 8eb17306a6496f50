"""Ledger: the typed face of the database. Every awaited method is one operation of the writer's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, TypeVar, cast
from uuid import UUID

from sqlalchemy import Connection

from producer_sdk.contract import Crossing, JobResult, Straight
from worker.errors import LedgerUnavailable
from worker.job_run import Answer, Attempt, JobRun, utc_now
from worker.ledger import (
    batches,
    limit_changes,
    outcomes,
    queries,
    reads,
    routing_versions,
    run_history,
    run_trees,
    runs,
)
from worker.ledger.accounts import AttemptAccount, JobAccount, account
from worker.ledger.changes import Change, Finish, Journal, MakeVoid, MarkUncertain, Mirror, Reconcile, Settle
from worker.ledger.database import FAILURES, open_engine, told
from worker.ledger.operations import Statement
from worker.ledger.partitions import add_partitions
from worker.ledger.purge import JOBS_A_PAGE, purge_page
from worker.ledger.queries import DIMENSIONS, AttemptLine, Dimension, Span, Totals, UncertainRow, UsageRow
from worker.ledger.rebuild import rebuild_sums, window_sums
from worker.ledger.records import (
    Batch,
    KnownJob,
    LimitChange,
    OpenAttempt,
    OpenJob,
    Overrides,
    RebuildSums,
    RoutingVersion,
    RoutingWorker,
    SettledAttempt,
    Settlement,
)
from worker.ledger.rows import attempt_row, hit_values, job_row, plain
from worker.ledger.run_history import RunHistory
from worker.ledger.run_trees import RunJob, RunNode, RunReport
from worker.ledger.writer import Writer

__all__ = [
    "DIMENSIONS",
    "AttemptAccount",
    "AttemptLine",
    "Dimension",
    "JobAccount",
    "KnownJob",
    "Ledger",
    "LimitChange",
    "OpenAttempt",
    "OpenJob",
    "Overrides",
    "RebuildSums",
    "RunJob",
    "RunNode",
    "RunReport",
    "SettledAttempt",
    "Settlement",
    "Span",
    "Totals",
    "UncertainRow",
    "UsageRow",
]

MIGRATE_TIMEOUT_S = 60.0
MOST_PURGE_PAGES = 1000
T = TypeVar("T")


class Ledger:
    """Every awaited method raises LedgerUnavailable when the database does not answer within `timeout_s`.

    Then it is not known whether the change was made: each may be asked for again. LedgerRefused: it never will be.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0, crossing: Crossing | None = None) -> None:
        self._url = url
        engine = open_engine(url, timeout_s=timeout_s)
        self._writer = Writer(engine, timeout_s=timeout_s, crossing=crossing or Straight())
        # What sums up a long history must not hold up the jobs' own rows.
        reading = open_engine(url, timeout_s=timeout_s)
        self._reader = Writer(reading, timeout_s=timeout_s, crossing=Straight())

    def migrate(self) -> None:
        """Bring the tables up to date; any number of processes may do so at once. Blocks.

        Raises LedgerUnavailable.
        """
        from worker.ledger import migrations  # noqa: PLC0415 - Alembic is 8 MB, which a worker never uses

        engine = open_engine(self._url, timeout_s=MIGRATE_TIMEOUT_S)
        try:
            migrations.upgrade(engine)
        except FAILURES as error:
            raise LedgerUnavailable(f"the ledger's tables cannot be made: {told(error)}") from error
        finally:
            engine.dispose()

    def start(self) -> None:
        """Start the writer. The database is first asked when something is."""
        self._writer.start()

    async def close(self) -> None:
        """Write what waits, then end the writer."""
        await self._writer.close()
        await self._reader.close()

    async def look_up(self, job_id: UUID) -> KnownJob:
        """What earlier deliveries of a job have left."""
        return cast("KnownJob", await self._writer.do(reads.LookUp(job_id)))

    async def journal(self, attempt: Attempt, *, worst_pico: int) -> None:
        """Commit the attempt as in flight, before its call, and its job's message. Raises JournalRefused."""
        job = job_row(attempt.job_run, now=utc_now(), story=attempt.job_run.story.written())
        await self._change(Journal(attempt_row(attempt, worst_pico=worst_pico), job))

    async def settle(
        self, attempt: Attempt, settlement: Settlement, *, final: JobResult | None = None
    ) -> JobResult | None:
        """Settle an attempt once, with its usage row; with `final`, also end its job, once.

        Returns the job's standing result, if `final` was given: it is the first one's.
        """
        now = utc_now()
        row = attempt_row(attempt, worst_pico=attempt.call.highest_pico)
        job = job_row(attempt.job_run, now=now, story=_story(attempt.job_run, final) if final else "")
        change = Settle(row, settlement, job, now, final)
        return cast("JobResult | None", await self._change(change))

    async def finish(self, job_run: JobRun, result: JobResult, *, answer: Answer | None = None) -> JobResult:
        """End a job once; returns the result that stands. An answer from a cache gets its usage row with it."""
        now = utc_now()
        is_hit = answer is not None and answer.cache in ("exact", "semantic", "coalesced")
        hit = hit_values(job_run, answer, now=now) if answer is not None and is_hit else None
        job = job_row(job_run, now=now, story=_story(job_run, result))
        return cast("JobResult", await self._change(Finish(job, result, now, hit)))

    async def mirrored(self, settled: Mapping[UUID, tuple[int, int]]) -> None:
        """Redis' books hold these amounts: attempt id to (epoch, pico-dollars). What has changed since is left."""
        if settled:
            await self._change(Mirror(dict(settled)))

    async def in_flight(self, *, limit: int = 500, after: UUID | None = None) -> list[OpenAttempt]:
        """Attempts that have not ended, oldest first."""
        return await self._ask(reads.in_flight(limit=limit, after=after))

    async def open_jobs(
        self, *, fleet: str, created_before: datetime, limit: int = 200, after: UUID | None = None
    ) -> list[OpenJob]:
        """A fleet's jobs that have begun and not ended, by id; `fleet` is its lanes' namespace."""
        return await self._ask(
            reads.open_jobs(fleet=fleet, created_before=created_before, limit=limit, after=after)
        )

    async def unmirrored(self, *, limit: int = 500, after: UUID | None = None) -> list[SettledAttempt]:
        """Settled attempts that Redis has not confirmed, oldest first."""
        return await self._ask(reads.unmirrored(limit=limit, after=after))

    async def mark_uncertain(self, ids: Sequence[UUID]) -> list[SettledAttempt]:
        """Settle attempts in flight at their worst case; returns those of `ids` that are uncertain now."""
        return cast("list[SettledAttempt]", await self._change(MarkUncertain(list(ids), utc_now())))

    async def change_limit(self, change: LimitChange) -> None:
        """Write down an operator's change of a budget, once."""
        await self._ask(limit_changes.add(change), writes=True)

    async def overrides(self, *, since: datetime) -> Overrides:
        """What holds beside routing.yaml; top-ups since then."""
        return await self._ask(limit_changes.overrides(since=since))

    async def reconcile(self, known: Mapping[UUID, Settlement]) -> dict[UUID, str]:
        """Settle uncertain attempts at what they cost after all; what is not uncertain is left, and its state told.

        The reaper brings the difference to Redis.
        """
        return cast("dict[UUID, str]", await self._change(Reconcile(dict(known), utc_now())))

    async def uncertain(self, *, limit: int = 1000, tenant: str | None = None) -> list[UncertainRow]:
        """The usage rows whose cost nobody knows, the oldest first."""
        return await self._ask(queries.uncertain(limit=limit, tenant=tenant))

    async def window_sums(self, *, since: datetime) -> RebuildSums:
        """What a rebuild would count, without one: what every window stands at, and the attempts in flight."""
        return await self._ask(window_sums(since=since))

    async def known(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """The states of those attempts that have a row."""
        return await self._ask(reads.known(ids))

    async def void(self, ids: Sequence[UUID]) -> list[UUID]:
        """Refuse the journal rows of attempts that have none, for ever; returns those that are void now."""
        return cast("list[UUID]", await self._change(MakeVoid(list(ids), utc_now())))

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
    ) -> Batch | Literal["closed", "old_epoch"]:
        """Commit a batch that the books of this epoch have admitted, before its lines; the one that stands."""
        batch = Batch(batch_id, tenant, reserved_pico, lines, windows, utc_now(), expires_at)
        return await self._ask(batches.opened(batch, epoch=epoch), writes=True)

    async def give_up_batches(self, ids: Sequence[UUID], *, tenant: str) -> list[UUID]:
        """Close this tenant's batches, or let them never be opened; returns those that are closed now."""
        return await self._ask(batches.given_up(ids, tenant=tenant, now=utc_now()), writes=True)

    async def void_batches(self, tenant_of: Mapping[UUID, str]) -> None:
        """Refuse the rows of batches that have none, for ever."""
        await self._ask(batches.voided(tenant_of, now=utc_now()), writes=True)

    async def confirm_batches(self, lines: Mapping[UUID, int], *, tenant: str, expires_at: datetime) -> None:
        """So many lines of these batches were accepted by their lanes: when those have ended, the batch has."""
        await self._ask(batches.confirmed(lines, tenant=tenant, expires_at=expires_at), writes=True)

    async def batch_states(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """`open` or `closed` of those batches that have a row."""
        return await self._ask(batches.states(ids))

    async def end_batches(self, *, limit: int = 500) -> dict[UUID, str]:
        """Close batches that have expired, or whose lines have all ended; returns the tenant of each."""
        return await self._ask(batches.ended(now=utc_now(), limit=limit), writes=True)

    async def purge_batches(self, *, before: datetime) -> None:
        """Forget closed batches and runs' parents that no window speaks of any more."""
        await self._ask(batches.purged(before=before), writes=True)

    async def ancestors(self, tenant: str, run_id: str, parent_run_id: str | None) -> tuple[str, ...]:
        """The runs above a run, the nearest first; its parent is written down with the first job that names one."""
        told = runs.ancestors(tenant, plain(run_id), plain(parent_run_id), now=utc_now())
        return await self._ask(told, writes=parent_run_id is not None)

    async def run_tree(self, tenant: str, run_id: str) -> RunReport:
        """A run and the runs below it, with their jobs and what those cost."""
        return await self._ask(run_trees.tree(tenant, run_id))

    async def run_history(
        self, tenant: str, run_id: str, *, since: datetime, with_messages: bool
    ) -> RunHistory:
        """What a run and those below it have had, if its last job is not of before `since`."""
        told = run_history.history(tenant, plain(run_id), since=since, with_messages=with_messages)
        return await self._ask(told)

    async def routing_in_force(self, fleet: str) -> RoutingVersion | None:
        """The fleet's routing.yaml; None where none was ever published."""
        return await self._aside(routing_versions.in_force(fleet))

    async def routing_content(self, fleet: str, version: str) -> tuple[bytes, bytes] | None:
        """The bytes of a version that the fleet has had, and those of the packaged file around it."""
        return await self._aside(routing_versions.content(fleet, version))

    async def knows_routing(self, fleet: str, version: str) -> bool:
        """Whether the fleet has ever had this version."""
        return await self._aside(routing_versions.is_known(fleet, version))

    async def publish_routing(self, fleet: str, about: RoutingVersion, bytes_of: tuple[bytes, bytes]) -> bool:
        """Put a version into force; False: its number is another version's already."""
        return await self._aside(routing_versions.publish(fleet, about, bytes_of), writes=True)

    async def routing_seen(self, fleet: str, worker: RoutingWorker) -> None:
        """A worker says which version it has."""
        said = replace(worker, refused=plain(worker.refused))
        await self._aside(routing_versions.seen(fleet, said), writes=True)

    async def routing_left(self, fleet: str, worker: str, *, before: datetime) -> None:
        """A worker ends; those that have not been heard of since then are forgotten too."""
        await self._aside(routing_versions.left(fleet, worker, before=before), writes=True)

    async def routing_workers(self, fleet: str, *, since: datetime) -> list[RoutingWorker]:
        """The workers that were heard of since then, by name."""
        return await self._aside(routing_versions.workers(fleet, since=since))

    async def account(self, job_id: UUID) -> JobAccount | None:
        """All that SQL knows of a job, but its content; None where it has no row of it."""
        return await self._ask(account(job_id))

    async def epoch(self) -> int:
        """The epoch in force."""
        return await self._ask(reads.epoch)

    async def rebuild_sums(self, *, since: datetime, above: int = 0) -> RebuildSums:
        """Raise the epoch over its own and `above`, and count what every window has spent and holds."""
        return await self._ask(rebuild_sums(since=since, above=above), writes=True)

    async def purge_content(self, *, finished_before: datetime) -> int:
        """Forget requests and answers of jobs that ended before, in bounded pages; returns of how many jobs."""
        purged = 0
        for _ in range(MOST_PURGE_PAGES):
            page = purge_page(finished_before=finished_before, now=utc_now())
            found = await self._ask(page, writes=True)
            purged += found
            if found < JOBS_A_PAGE:
                break
        return purged

    async def add_partitions(self) -> None:
        """Make PostgreSQL's partitions of the months to come, where they are not there yet."""
        await self._ask(add_partitions, writes=True)

    async def usage(self, by: Sequence[Dimension] = (), *, span: Span | None = None) -> list[UsageRow]:
        """Usage in groups of these dimensions, the dearest first; without any, one row."""
        return await self._ask(queries.usage(by, span or Span()))

    async def report(self, by: Sequence[Dimension], *, span: Span, limit: int) -> list[UsageRow]:
        """`usage` of any size beside the jobs' own work: one at a time, on a connection of its own."""
        return await self._aside(queries.usage(by, span, limit=limit))

    async def attempt_lines(self, *, span: Span | None = None, limit: int = 100_000) -> list[AttemptLine]:
        """The ledger's rows of attempts, to hold against a provider's books."""
        return await self._ask(queries.attempt_lines(span or Span(), limit=limit))

    async def books(self) -> Totals:
        """The ledger in one look."""
        return await self._ask(queries.totals)

    async def is_current(self) -> bool:
        """Whether the tables are of this version."""
        from worker.ledger import migrations  # noqa: PLC0415 - as above

        return await self._ask(migrations.is_current)

    async def _change(self, change: Change) -> Any:
        return await self._writer.do(change)

    async def _ask(self, run: Callable[[Connection], T], *, writes: bool = False) -> T:
        return cast("T", await self._writer.do(Statement(run, writes=writes)))

    async def _aside(self, run: Callable[[Connection], T], *, writes: bool = False) -> T:
        """As `_ask`, on the connection that holds up no job."""
        self._reader.start()
        return cast("T", await self._reader.do(Statement(run, writes=writes)))


def _story(job_run: JobRun, result: JobResult) -> str:
    return job_run.story.written("result", result.status, **outcomes.result_of(result))
