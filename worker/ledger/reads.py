"""What workers and the reaper read: a job's past, and the attempts that Redis must still be told of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Connection, func, select

from worker.errors import LedgerUnavailable
from worker.ledger.columns import exact_sum, joined
from worker.ledger.records import KnownJob, OpenAttempt, OpenJob, SettledAttempt
from worker.ledger.rows import read_result
from worker.ledger.tables import ATTEMPTS, EPOCH, IS_IN_FLIGHT, IS_OPEN, IS_UNMIRRORED, JOBS

LOOKED_UP = (JOBS.c.job_id, JOBS.c.status, JOBS.c.result, JOBS.c.story)
UNRESOLVED = frozenset({"in_flight", "uncertain"})


@dataclass
class LookUp:
    """What earlier deliveries of a job have left."""

    job_id: UUID
    writes: ClassVar[bool] = False
    group: ClassVar[str] = "look-ups"
    size_bytes: ClassVar[int] = 0

    def together(
        self, connection: Connection, look_ups: Sequence[LookUp]
    ) -> list[KnownJob | LedgerUnavailable]:
        """Look all of them up with two statements."""
        ids = list({look_up.job_id for look_up in look_ups})
        found = connection.execute(select(*LOOKED_UP).where(JOBS.c.job_id.in_(ids)))
        rows = {row.job_id: row for row in found}
        counted = connection.execute(
            select(ATTEMPTS.c.job_id, ATTEMPTS.c.state, func.count(), *exact_sum(ATTEMPTS.c.cost_pico))
            .where(ATTEMPTS.c.job_id.in_(ids), ATTEMPTS.c.state != "void")
            .group_by(ATTEMPTS.c.job_id, ATTEMPTS.c.state)
        )
        past: dict[UUID, list[Any]] = {}
        for job_id, *rest in counted:
            past.setdefault(job_id, []).append(rest)
        return [_known(rows.get(it.job_id), past.get(it.job_id, [])) for it in look_ups]


def _known(row: Any, past: Sequence[Any]) -> KnownJob | LedgerUnavailable:
    final = read_result(row.result) if row and row.status else None
    if isinstance(final, LedgerUnavailable):
        return final
    return KnownJob(
        final=final,
        unresolved=sum(count for state, count, _high, _low in past if state in UNRESOLVED),
        attempts=sum(count for _state, count, _high, _low in past),
        spent_pico=sum(joined(high, low) for _state, _count, high, low in past),
        story=row.story if row and not row.status else None,
    )


OPEN_COLUMNS = (
    ATTEMPTS.c.id,
    ATTEMPTS.c.tenant,
    ATTEMPTS.c.tag,
    ATTEMPTS.c.worst_pico,
    ATTEMPTS.c.windows,
    ATTEMPTS.c.created_at,
    ATTEMPTS.c.batch_id,
)


def in_flight(*, limit: int, after: UUID | None) -> Callable[[Connection], list[OpenAttempt]]:
    """Attempts that have not ended, oldest first."""
    statement = select(*OPEN_COLUMNS).where(IS_IN_FLIGHT).order_by(ATTEMPTS.c.id).limit(limit)
    if after is not None:
        statement = statement.where(ATTEMPTS.c.id > after)
    return lambda connection: [OpenAttempt(*row) for row in connection.execute(statement)]


def open_jobs(
    *, fleet: str, created_before: datetime, limit: int, after: UUID | None
) -> Callable[[Connection], list[OpenJob]]:
    """A fleet's jobs that have begun and not ended, by id."""
    statement = select(JOBS.c.job_id, JOBS.c.message).where(IS_OPEN, JOBS.c.created_at < created_before)
    statement = (
        statement.where(JOBS.c.fleet == fleet, JOBS.c.message.is_not(None))
        .order_by(JOBS.c.job_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(JOBS.c.job_id > after)
    return lambda connection: [OpenJob(*row) for row in connection.execute(statement)]


def unmirrored(*, limit: int, after: UUID | None) -> Callable[[Connection], list[SettledAttempt]]:
    """Settled attempts whose amount Redis has not confirmed, oldest first."""
    columns = (
        ATTEMPTS.c.id,
        ATTEMPTS.c.cost_pico,
        ATTEMPTS.c.windows,
        ATTEMPTS.c.settled_at,
        ATTEMPTS.c.state,
    )
    statement = select(*columns).where(IS_UNMIRRORED).order_by(ATTEMPTS.c.id).limit(limit)
    if after is not None:
        statement = statement.where(ATTEMPTS.c.id > after)
    return lambda connection: [SettledAttempt(*row) for row in connection.execute(statement)]


def known(ids: Sequence[UUID]) -> Callable[[Connection], dict[UUID, str]]:
    """The states of those attempts that have a row."""
    statement = select(ATTEMPTS.c.id, ATTEMPTS.c.state).where(ATTEMPTS.c.id.in_(ids))
    return lambda connection: {row.id: row.state for row in connection.execute(statement)}


def epoch(connection: Connection) -> int:
    """The epoch in force."""
    return int(connection.execute(select(EPOCH.c.epoch)).scalar_one())


def lowest_id(since: datetime) -> UUID:
    """No attempt that was made at `since` or later has a smaller id: a range of ids is a range of time."""
    return UUID(int=int(since.astimezone(UTC).timestamp() * 1000) << 80)
