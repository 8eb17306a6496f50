"""Batches in SQL: opened once under the epoch in force, closed once, never opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, func, insert, or_, select, true, update

from worker.ledger.records import Batch
from worker.ledger.tables import BATCHES, EPOCH, JOBS

Opened = Literal["open", "closed", "old_epoch"]


def opened(batch: Batch, *, epoch: int) -> Callable[[Connection], Opened]:
    """Write it down, unless it was closed meanwhile or the books that admitted it have passed; a repeat stands."""

    def write(connection: Connection) -> Opened:
        current = connection.execute(select(EPOCH.c.epoch).with_for_update(read=True)).scalar_one()
        state = connection.execute(select(BATCHES.c.state).where(BATCHES.c.id == batch.id)).scalar()
        if state is not None:
            return "open" if state == "open" else "closed"
        if epoch != current:
            return "old_epoch"
        connection.execute(insert(BATCHES).values(**vars(batch), state="open"))
        return "open"

    return write


def closed(ids: Sequence[UUID], *, tenant: str | None, now: datetime) -> Callable[[Connection], list[UUID]]:
    """Close those that are open, of this tenant where it is named; returns those of `ids` that are closed now."""

    def write(connection: Connection) -> list[UUID]:
        chosen = BATCHES.c.id.in_(ids) & ((BATCHES.c.tenant == tenant) if tenant is not None else true())
        statement = update(BATCHES).where(chosen, BATCHES.c.state == "open")
        connection.execute(statement.values(state="closed", closed_at=now))
        return list(
            connection.execute(select(BATCHES.c.id).where(chosen, BATCHES.c.state == "closed")).scalars()
        )

    return write


def voided(batches: Mapping[UUID, str], *, now: datetime) -> Callable[[Connection], None]:
    """Tombstones for batches (id to tenant) that have no row, so that their own rows are refused."""

    def write(connection: Connection) -> None:
        known = set(connection.execute(select(BATCHES.c.id).where(BATCHES.c.id.in_(batches))).scalars())
        rows = [
            {
                **vars(Batch(batch_id, tenant, 0, 0, (), now, now)),
                "state": "closed",
                "closed_at": now,
            }
            for batch_id, tenant in batches.items()
            if batch_id not in known
        ]
        if rows:
            connection.execute(insert(BATCHES), rows)

    return write


def states(ids: Sequence[UUID]) -> Callable[[Connection], dict[UUID, str]]:
    """`open` or `closed` of those that have a row."""
    statement = select(BATCHES.c.id, BATCHES.c.state).where(BATCHES.c.id.in_(ids))
    return lambda connection: {row.id: row.state for row in connection.execute(statement)}


def counted(lines: Mapping[UUID, int], *, tenant: str) -> Callable[[Connection], None]:
    """So many lines of a batch were accepted by their lane."""

    def write(connection: Connection) -> None:
        for batch_id, number in lines.items():
            chosen = (BATCHES.c.id == batch_id) & (BATCHES.c.tenant == tenant)
            connection.execute(update(BATCHES).where(chosen).values(lines=number))

    return write


def over(*, now: datetime, limit: int) -> Callable[[Connection], list[UUID]]:
    """Open batches that have expired, or whose lines have all ended."""
    ended = (
        select(func.count())
        .select_from(JOBS)
        .where(JOBS.c.batch_id == BATCHES.c.id, JOBS.c.finished_at.is_not(None))
        .scalar_subquery()
    )
    statement = (
        select(BATCHES.c.id)
        .where(BATCHES.c.state == "open", or_(BATCHES.c.expires_at <= now, BATCHES.c.lines <= ended))
        .order_by(BATCHES.c.id)
        .limit(limit)
    )
    return lambda connection: list(connection.execute(statement).scalars())
