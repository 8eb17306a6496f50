"""The rows that a batch of changes is about: read and locked once, changed in memory, written once, in bulk.

Rows are locked in one order (epoch, attempts by id, jobs by id), so that batches of several workers do not wait for
each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table, bindparam, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from producer_sdk.contract import JobResult
from worker.ledger import rows, rules
from worker.ledger.records import Settlement
from worker.ledger.rows import AttemptRow, JobRow
from worker.ledger.tables import ATTEMPTS, EPOCH, EVENTS, JOBS

_ATTEMPT_NAMES = [field.name for field in fields(AttemptRow)]
_ATTEMPT_COLUMNS = [ATTEMPTS.c[name] for name in _ATTEMPT_NAMES]
_CHANGING = {
    ATTEMPTS: ("state", "cost_pico", "over_reserved", "settled_at", "mirrored_epoch"),
    JOBS: ("status", "result", "finished_at", "story"),
}
_ID: Any = bindparam("this_id")
_IS_EVENT = (EVENTS.c.id == _ID) & (EVENTS.c.created_at == bindparam("this_created_at"))
_DELETE_EVENT = delete(EVENTS).where(_IS_EVENT)


class Page:
    """The rows of one transaction. `attempts` and `jobs` are changed by replacing their values."""

    def __init__(self, epoch: int, attempts: Iterable[AttemptRow], jobs: Iterable[JobRow]) -> None:
        self.epoch = epoch
        self.attempts = {row.id: row for row in attempts}
        self.jobs = {row.job_id: row for row in jobs}
        self._loaded_attempts = dict(self.attempts)
        self._loaded_jobs = dict(self.jobs)
        self._endings: dict[UUID, Settlement] = {}
        self._hits: dict[UUID, dict[str, Any]] = {}

    def settle(self, row: AttemptRow, settlement: Settlement) -> None:
        """Put a row that this settlement has changed, whose usage row follows from it."""
        self.attempts[row.id] = row
        self._endings[row.id] = settlement

    def add_hit(self, values: dict[str, Any]) -> None:
        """Add the usage row of a cache hit."""
        self._hits[values["id"]] = values

    def write(self, connection: Connection) -> None:
        """Write what has changed since the page was read."""
        self._write_jobs(connection)
        self._write_attempts(connection)
        self._write_events(connection)

    def _write_jobs(self, connection: Connection) -> None:
        new, ended = [], []
        for job_id, row in sorted(self.jobs.items()):
            if job_id not in self._loaded_jobs:
                new.append(_job_values(row))
            elif row is not self._loaded_jobs[job_id]:
                ended.append(_job_values(row))
        _many(connection, insert(JOBS), new)
        _change(connection, JOBS, ended)

    def _write_attempts(self, connection: Connection) -> None:
        new, changed = [], []
        for attempt_id, row in sorted(self.attempts.items()):
            values = {name: getattr(row, name) for name in _ATTEMPT_NAMES}
            if attempt_id not in self._loaded_attempts:
                new.append(values)
            elif row != self._loaded_attempts[attempt_id]:
                changed.append(values)
        _many(connection, insert(ATTEMPTS), new)
        _change(connection, ATTEMPTS, changed)

    def _write_events(self, connection: Connection) -> None:
        """A late settlement writes its usage row anew: rare, and so it needs no statement of its own."""
        gone, new = [], list(self._hits.values())
        for attempt_id, settlement in sorted(self._endings.items()):
            row, before = self.attempts[attempt_id], self._loaded_attempts.get(attempt_id)
            if before is not None and before.state in rules.HAVE_EVENT:
                gone.append({"this_id": attempt_id, "this_created_at": row.created_at})
            if row.state in rules.HAVE_EVENT:
                new.append(rows.event_values(row, settlement))
        _many(connection, _DELETE_EVENT, gone)
        _many(connection, insert(EVENTS), new)


def _job_values(row: JobRow) -> dict[str, Any]:
    result = row.result
    return {
        "job_id": row.job_id,
        "tenant": row.tenant,
        "task": row.task,
        "message": row.message,
        "fleet": row.fleet,
        "status": row.status,
        "result": result.model_dump_json() if isinstance(result, JobResult) else result,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "batch_id": row.batch_id,
        "run_id": row.run_id,
        "story": row.story,
    }


def read_page(
    connection: Connection, *, attempt_ids: Sequence[UUID], job_ids: Sequence[UUID], with_epoch: bool
) -> Page:
    """Lock and read these rows; the epoch only where it is asked for (0 otherwise), for its lock is the fleet's."""
    epoch = 0
    if with_epoch:
        epoch = connection.execute(select(EPOCH.c.epoch).with_for_update(read=True)).scalar_one()
    attempts = [AttemptRow(*found) for found in _locked(connection, ATTEMPTS, _ATTEMPT_COLUMNS, attempt_ids)]
    columns = [JOBS.c.job_id, JOBS.c.status, JOBS.c.result]
    jobs = [
        JobRow(job_id, status=status, result=result)
        for job_id, status, result in _locked(connection, JOBS, columns, job_ids)
    ]
    return Page(epoch, attempts, jobs)


def _locked(connection: Connection, table: Table, columns: Sequence[Any], ids: Sequence[UUID]) -> Any:
    key = columns[0]
    return (
        connection.execute(select(*columns).where(key.in_(ids)).order_by(key).with_for_update(of=table))
        if ids
        else ()
    )


def _many(connection: Connection, statement: Any, values: Sequence[dict[str, Any]]) -> None:
    if values:
        connection.execute(statement, values)


def _change(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Write what may change of rows that are there, and locked.

    PostgreSQL takes an INSERT of many rows in one statement, but an UPDATE of each by itself: so these are INSERTs
    that all conflict.
    """
    _many(connection, _CHANGES[connection.dialect.name][table.name], rows)


def _upsert(insertion: Any, table: Table) -> Any:
    [key] = table.primary_key
    changing = {name: insertion.excluded[name] for name in _CHANGING[table]}
    return insertion.on_conflict_do_update(index_elements=[key], set_=changing)


_CHANGES = {
    "postgresql": {table.name: _upsert(postgresql.insert(table), table) for table in _CHANGING},
    "sqlite": {table.name: _upsert(sqlite.insert(table), table) for table in _CHANGING},
}
