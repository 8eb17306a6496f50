"""Counts every window anew under a higher epoch, in one transaction that no journal row can slip past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    Text,
    Uuid,
    case,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
    update,
)

from worker.ledger.columns import GIGA, exact_sum, joined
from worker.ledger.limit_changes import overrides
from worker.ledger.reads import lowest_id
from worker.ledger.records import RETURNING, OpenAttempt, OpenBatch, RebuildSums
from worker.ledger.tables import ATTEMPTS, BATCHES, EPOCH, IS_IN_FLIGHT, IS_UNMIRRORED


def rebuild_sums(*, since: datetime, above: int) -> Callable[[Connection], RebuildSums]:
    """What attempts made since then have spent, and what those in flight hold."""

    def rebuild(connection: Connection) -> RebuildSums:
        # First the lock: whoever was journalling has committed, whoever comes later finds another epoch.
        current = connection.execute(select(EPOCH.c.epoch).with_for_update()).scalar_one()
        epoch = max(int(current), above) + 1
        connection.execute(update(EPOCH).values(epoch=epoch))
        # Then the marks, then the sums: what is settled between the two is counted and stays unmarked, so that
        # Redis is told twice. The other way round it would be marked and not counted.
        connection.execute(update(ATTEMPTS).where(IS_UNMIRRORED).values(mirrored_epoch=epoch))
        sums = _counted(epoch, connection.execute(_sums(since)))
        return replace(sums, overrides=overrides(since=since)(connection))

    return rebuild


def window_sums(*, since: datetime) -> Callable[[Connection], RebuildSums]:
    """The same sums under the epoch in force; nothing is changed."""
    return lambda connection: _counted(
        int(connection.execute(select(EPOCH.c.epoch)).scalar_one()), connection.execute(_sums(since))
    )


def _sums(since: datetime) -> Any:
    """One statement, so one snapshot: an attempt is either in flight in it or settled, never neither.

    Rows: kind, id, tenant, tag, windows, amount (high, low), created_at, batch, drawn (high, low).
    """
    nothing, no_id, no_amount = cast(null(), Text), cast(null(), Uuid), cast(null(), BigInteger)
    open_rows = select(
        literal("hold"),
        ATTEMPTS.c.id,
        ATTEMPTS.c.tenant,
        ATTEMPTS.c.tag,
        ATTEMPTS.c.windows,
        (ATTEMPTS.c.worst_pico // GIGA).label("high"),
        (ATTEMPTS.c.worst_pico % GIGA).label("low"),
        ATTEMPTS.c.created_at,
        ATTEMPTS.c.batch_id,
        no_amount,
        no_amount,
    ).where(IS_IN_FLIGHT, ATTEMPTS.c.windows != ())
    settled = (
        select(
            literal("settled"),
            no_id,
            nothing,
            nothing,
            ATTEMPTS.c.windows,
            *exact_sum(ATTEMPTS.c.cost_pico),
            literal(since, ATTEMPTS.c.created_at.type),
            no_id,
            no_amount,
            no_amount,
        )
        .where(
            ATTEMPTS.c.state.in_(("settled", "failed", "uncertain")),
            ATTEMPTS.c.id >= lowest_id(since),
            ATTEMPTS.c.windows != (),
        )
        .group_by(ATTEMPTS.c.windows)
    )
    return union_all(open_rows, settled, _open_batches(nothing))


def _open_batches(nothing: Any) -> Select[Any]:
    """What each has reserved, and what its lines draw: their worst case, or their cost where they return the rest."""
    returns = ATTEMPTS.c.state.in_(RETURNING) & (ATTEMPTS.c.cost_pico < ATTEMPTS.c.worst_pico)
    draws = case((returns, ATTEMPTS.c.cost_pico), else_=ATTEMPTS.c.worst_pico)
    drawn = (
        select(
            ATTEMPTS.c.batch_id,
            *(half.label(name) for half, name in zip(exact_sum(draws), "hl", strict=True)),
        )
        .where(ATTEMPTS.c.batch_id.is_not(None))
        .group_by(ATTEMPTS.c.batch_id)
        .subquery()
    )
    return (
        select(
            literal("batch"),
            BATCHES.c.id,
            BATCHES.c.tenant,
            nothing,
            BATCHES.c.windows,
            BATCHES.c.reserved_pico // GIGA,
            BATCHES.c.reserved_pico % GIGA,
            BATCHES.c.created_at,
            BATCHES.c.id,
            func.coalesce(drawn.c.h, 0),
            func.coalesce(drawn.c.l, 0),
        )
        .outerjoin_from(BATCHES, drawn, BATCHES.c.id == drawn.c.batch_id)
        .where(BATCHES.c.state == "open", BATCHES.c.windows != ())
    )


def _counted(epoch: int, rows: Any) -> RebuildSums:
    sums = RebuildSums(epoch, {}, [])
    for kind, row_id, tenant, tag, windows, high, low, created_at, batch_id, *drawn in rows:
        amount = joined(high, low)
        if kind == "hold":
            sums.holds.append(OpenAttempt(row_id, tenant, tag, amount, windows, created_at, batch_id))
        elif kind == "batch":
            sums.batches.append(OpenBatch(row_id, tenant, amount, joined(*drawn), windows))
        else:
            for window in windows:
                sums.settled[window] = sums.settled.get(window, 0) + amount
    return sums
