"""Reads the ledger from outside, a new connection each time, as another program would."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sqlalchemy import ColumnElement, Table, case, create_engine, func, select
from sqlalchemy.pool import NullPool

from tests.chaos.books import AttemptRow, EventRow
from tests.chaos.redis_books import Held
from worker.ledger.tables import ATTEMPTS, EVENTS, IS_IN_FLIGHT, IS_UNMIRRORED, JOBS, LIMIT_CHANGES

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

    def stories(self) -> dict[str, str | None]:
        """What the steps have noted of each job."""
        return {str(row.job_id): row.story for row in self._rows(JOBS)}

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

    def held(self) -> dict[str, Held]:
        """What each attempt in flight holds."""
        return {str(row.id): Held(row.worst_pico, row.windows) for row in self._rows(ATTEMPTS, IS_IN_FLIGHT)}

    def spent(self, *, in_flight: bool) -> dict[str, int]:
        """What each window has spent, uncertain calls at worst; with what is in flight at its worst, or without."""
        at_worst = ATTEMPTS.c.state == "in_flight"
        amount = case((at_worst, ATTEMPTS.c.worst_pico), else_=ATTEMPTS.c.cost_pico)
        statement = select(ATTEMPTS.c.windows, func.sum(amount)).group_by(ATTEMPTS.c.windows)
        spent: Counter[str] = Counter()
        with self._engine.connect() as connection:
            for windows, pico in connection.execute(statement if in_flight else statement.where(~at_worst)):
                spent.update(dict.fromkeys(windows, int(pico)))
        return dict(spent)

    def top_ups(self) -> dict[str, int]:
        """What operators have added to each window."""
        added: Counter[str] = Counter()
        for row in self._rows(LIMIT_CHANGES, LIMIT_CHANGES.c.kind == "top_up"):
            added[row.name] += row.amount_pico
        return dict(added)

    def jobs_of_attempts(self, condition: ColumnElement[bool] | Any = None) -> dict[str, str]:
        """The job of each attempt."""
        return {str(row.id): str(row.job_id) for row in self._rows(ATTEMPTS, condition)}

    def begun(self) -> set[str]:
        """The jobs that SQL knows."""
        return {str(row.job_id) for row in self._rows(JOBS)}

    def over_reserved(self) -> int:
        """Attempts that cost more than they had reserved."""
        return self._count(ATTEMPTS, ATTEMPTS.c.over_reserved)

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
