"""Reads the ledger from outside, a new connection each time, as another program would."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Table, create_engine, func, select
from sqlalchemy.pool import NullPool

from tests.chaos.books import AttemptRow, EventRow
from worker.ledger.tables import ATTEMPTS, EVENTS, IS_IN_FLIGHT, IS_UNMIRRORED, JOBS

PICO_PER_USD = 10**12


class LedgerRows:
    """What stands in the tables."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, poolclass=NullPool)

    def close(self) -> None:
        self._engine.dispose()

    def finals(self) -> dict[str, dict[str, Any]]:
        """The final state of each job that has one."""
        rows = self._rows(JOBS, JOBS.c.finished_at.is_not(None))
        return {str(row.job_id): json.loads(row.result) | {"status": row.status} for row in rows}

    def attempts(self) -> dict[str, AttemptRow]:
        """The journal."""
        ends = {row.job_id: row.finished_at for row in self._rows(JOBS, JOBS.c.finished_at.is_not(None))}
        return {
            str(row.id): AttemptRow(
                row.state,
                row.cost_pico,
                row.windows,
                row.job_id in ends and row.created_at > ends[row.job_id],
            )
            for row in self._rows(ATTEMPTS)
        }

    def events(self) -> tuple[EventRow, ...]:
        """The ledger."""
        return tuple(
            EventRow(
                id=str(row.id),
                job_id=str(row.job_id),
                status=row.status,
                cache=row.cache,
                cost_pico=int(row.cost_usd * PICO_PER_USD),
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
            )
            for row in self._rows(EVENTS)
        )

    def tenants(self) -> list[str]:
        """The tenant of each ledger row."""
        return [row.tenant_id for row in self._rows(EVENTS)]

    def in_flight(self) -> dict[str, str]:
        """The tag of each attempt in flight."""
        return {str(row.id): row.tag for row in self._rows(ATTEMPTS, IS_IN_FLIGHT)}

    def unmirrored(self) -> int:
        """Settled attempts that Redis has not confirmed."""
        return self._count(ATTEMPTS, IS_UNMIRRORED)

    def all_certain(self) -> bool:
        """Whether no call is in flight or uncertain."""
        return all(row.state not in ("in_flight", "uncertain") for row in self.attempts().values())

    def unfinished(self) -> bool:
        """Whether attempts are in flight or unconfirmed, or jobs without an end."""
        open_jobs = JOBS.c.finished_at.is_(None)
        found = [(ATTEMPTS, IS_IN_FLIGHT), (ATTEMPTS, IS_UNMIRRORED), (JOBS, open_jobs)]
        return any(self._count(table, condition) for table, condition in found)

    def _rows(self, table: Table, condition: ColumnElement[bool] | Any = None) -> list[Any]:
        statement = select(table) if condition is None else select(table).where(condition)
        with self._engine.connect() as connection:
            return list(connection.execute(statement))

    def _count(self, table: Table, condition: ColumnElement[bool] | Any) -> int:
        with self._engine.connect() as connection:
            return int(
                connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
            )
