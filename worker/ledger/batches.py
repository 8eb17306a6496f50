"""Batches in SQL: opened once under the epoch in force, closed once, never opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from worker.ledger.records import Batch
from worker.ledger.tables import BATCHES, EPOCH, JOBS, RUNS

_COLUMNS = [BATCHES.c[field.name] for field in fields(Batch)]
_IS_OPEN = BATCHES.c.state == "open"


def opened(batch: Batch, *, epoch: int) -> Callable[[Connection], Batch | Literal["closed", "old_epoch"]]:
    """Write it down; the batch that stands, an earlier one where this is a repeat.

    Not where it was closed meanwhile, or where the books that admitted it have passed.
    """

    def write(connection: Connection) -> Batch | Literal["closed", "old_epoch"]:
        current = connection.execute(select(EPOCH.c.epoch).with_for_update(read=True)).scalar_one()
        known = connection.execute(select(BATCHES.c.state, *_COLUMNS).where(BATCHES.c.id == batch.id)).first()
        if known is not None:
            return Batch(*known[1:]) if known.state == "open" else "closed"
        if epoch != current:
            return "old_epoch"
        connection.execute(insert(BATCHES).values(**vars(batch), state="open"))
        return batch

    return write


def given_up(ids: Sequence[UUID], *, tenant: str, now: datetime) -> Callable[[Connection], list[UUID]]:
    """Close this tenant's batches; one without a row gets a closed one, so that it is never opened.

    Returns those that are closed now.
    """

    def write(connection: Connection) -> list[UUID]:
        _close(connection, BATCHES.c.id.in_(ids) & (BATCHES.c.tenant == tenant), now)
        _tombstones(connection, dict.fromkeys(ids, tenant), now)
        chosen = BATCHES.c.id.in_(ids) & (BATCHES.c.tenant == tenant) & (BATCHES.c.state == "closed")
        return list(connection.execute(select(BATCHES.c.id).where(chosen)).scalars())

    return write


def voided(tenant_of: Mapping[UUID, str], *, now: datetime) -> Callable[[Connection], None]:
    """Closed rows for batches that have none, so that their own rows are refused."""
    return lambda connection: _tombstones(connection, tenant_of, now)


def _close(connection: Connection, chosen: ColumnElement[bool], now: datetime) -> None:
    connection.execute(update(BATCHES).where(chosen, _IS_OPEN).values(state="closed", closed_at=now))


def _tombstones(connection: Connection, tenant_of: Mapping[UUID, str], now: datetime) -> None:
    known = set(connection.execute(select(BATCHES.c.id).where(BATCHES.c.id.in_(tenant_of))).scalars())
    rows = [
        {**vars(Batch(batch_id, tenant, 0, 0, (), now, now)), "state": "closed", "closed_at": now}
        for batch_id, tenant in tenant_of.items()
        if batch_id not in known
    ]
    if rows:
        connection.execute(insert(BATCHES), rows)


def confirmed(
    lines: Mapping[UUID, int], *, tenant: str, expires_at: datetime
) -> Callable[[Connection], None]:
    """So many lines of each batch were accepted by their lanes, and it is held until then."""

    def write(connection: Connection) -> None:
        for batch_id, number in lines.items():
            chosen = (BATCHES.c.id == batch_id) & (BATCHES.c.tenant == tenant) & _IS_OPEN
            connection.execute(update(BATCHES).where(chosen).values(lines=number, expires_at=expires_at))

    return write


def states(ids: Sequence[UUID]) -> Callable[[Connection], dict[UUID, str]]:
    """`open` or `closed` of those that have a row."""
    statement = select(BATCHES.c.id, BATCHES.c.state).where(BATCHES.c.id.in_(ids))
    return lambda connection: {row.id: row.state for row in connection.execute(statement)}


def ended(*, now: datetime, limit: int) -> Callable[[Connection], dict[UUID, str]]:
    """Close open batches that have expired, or whose lines have all ended; returns the tenant of each."""
    done = (
        select(func.count())
        .select_from(JOBS)
        .where(
            JOBS.c.batch_id == BATCHES.c.id,
            JOBS.c.tenant == BATCHES.c.tenant,
            JOBS.c.finished_at.is_not(None),
        )
        .scalar_subquery()
    )
    over = (
        select(BATCHES.c.id, BATCHES.c.tenant)
        .where(_IS_OPEN, or_(BATCHES.c.expires_at <= now, BATCHES.c.lines <= done))
        .order_by(BATCHES.c.id)
        .limit(limit)
    )

    def write(connection: Connection) -> dict[UUID, str]:
        tenant_of = {row.id: row.tenant for row in connection.execute(over)}
        if tenant_of:
            _close(connection, BATCHES.c.id.in_(tenant_of), now)
        return tenant_of

    return write


def purged(*, before: datetime) -> Callable[[Connection], None]:
    """Forget batches that were closed before, and which run came from which before: no window speaks of them."""

    def write(connection: Connection) -> None:
        connection.execute(delete(BATCHES).where(BATCHES.c.state == "closed", BATCHES.c.closed_at < before))
        connection.execute(delete(RUNS).where(RUNS.c.created_at < before))

    return write
