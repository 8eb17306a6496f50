"""Operators' changes of budgets: a log that is only added to, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from worker.ledger.records import LimitChange, Overrides
from worker.ledger.tables import LIMIT_CHANGES


def add(change: LimitChange) -> Callable[[Connection], None]:
    """Add it, once."""

    def write(connection: Connection) -> None:
        known = connection.execute(select(LIMIT_CHANGES.c.id).where(LIMIT_CHANGES.c.id == change.id)).first()
        if known is None:
            connection.execute(insert(LIMIT_CHANGES).values(vars(change)))

    return write


def overrides(*, since: datetime) -> Callable[[Connection], Overrides]:
    """What holds now: the last limit that was set for each scope, and the sums of the top-ups since then."""

    def read(connection: Connection) -> Overrides:
        version = int(connection.execute(select(func.count()).select_from(LIMIT_CHANGES)).scalar_one())
        limits: dict[str, int] = {}
        top_ups: dict[str, int] = {}
        columns = (
            LIMIT_CHANGES.c.kind,
            LIMIT_CHANGES.c.name,
            LIMIT_CHANGES.c.amount_pico,
            LIMIT_CHANGES.c.created_at,
        )
        rows = connection.execute(select(*columns).order_by(LIMIT_CHANGES.c.created_at, LIMIT_CHANGES.c.id))
        for kind, name, amount, created_at in rows:
            if kind == "top_up" and created_at >= since:
                top_ups[name] = top_ups.get(name, 0) + int(amount or 0)
            elif kind == "set" and amount is None:
                limits.pop(name, None)
            elif kind == "set":
                limits[name] = int(amount)
        return Overrides(version, limits, top_ups)

    return read
