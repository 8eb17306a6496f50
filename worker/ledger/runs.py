"""Which agent run came from which: the first job that said so stands, so a tree never changes under its budgets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, insert, select

from worker.ledger.tables import RUNS

MOST_ANCESTORS = 16


def ancestors(
    tenant: str, run_id: str, parent_run_id: str | None, *, now: datetime
) -> Callable[[Connection], tuple[str, ...]]:
    """The runs above this one, the nearest first, at most MOST_ANCESTORS. A circle ends where it began."""

    def read(connection: Connection) -> tuple[str, ...]:
        found: list[str] = []
        above = _parent(connection, tenant, run_id)
        if above is None and parent_run_id is not None:
            row = {"tenant": tenant, "run_id": run_id, "parent_run_id": parent_run_id, "created_at": now}
            connection.execute(insert(RUNS).values(row))
            above = parent_run_id
        while above is not None and above not in (run_id, *found) and len(found) < MOST_ANCESTORS:
            found.append(above)
            above = _parent(connection, tenant, above)
        return tuple(found)

    return read


def _parent(connection: Connection, tenant: str, run_id: str) -> str | None:
    statement = select(RUNS.c.parent_run_id).where(RUNS.c.tenant == tenant, RUNS.c.run_id == run_id)
    return connection.execute(statement).scalar()
