"""All that SQL knows of one job, but its content: for `fairlane explain`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy import Connection, select

from producer_sdk.contract import JobError, JobResult
from worker.ledger.rows import read_result
from worker.ledger.tables import ATTEMPTS, JOBS

MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class AttemptAccount:
    """One attempt as the journal has it now; `number` None where its origin does not say."""

    id: UUID
    state: str
    number: int | None
    deployment: str
    worst_pico: int
    cost_pico: int
    windows: tuple[str, ...]
    created_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True)
class JobAccount:
    """One job that has begun. `status` None: it has not ended; `error`: of one that has no answer."""

    job_id: UUID
    tenant: str
    task: str
    status: str | None
    created_at: datetime
    finished_at: datetime | None
    purged_at: datetime | None
    batch_id: UUID | None
    run_id: str | None
    error: JobError | None
    story: str | None
    attempts: tuple[AttemptAccount, ...]


_COLUMNS = (
    JOBS.c.job_id,
    JOBS.c.tenant,
    JOBS.c.task,
    JOBS.c.status,
    JOBS.c.created_at,
    JOBS.c.finished_at,
    JOBS.c.purged_at,
    JOBS.c.batch_id,
    JOBS.c.run_id,
)


def account(job_id: UUID) -> Callable[[Connection], JobAccount | None]:
    """The job, with its first hundred attempts; None where SQL has no row of it."""
    of_job = select(*_COLUMNS, JOBS.c.result, JOBS.c.story).where(JOBS.c.job_id == job_id)
    of_attempts = (
        select(ATTEMPTS).where(ATTEMPTS.c.job_id == job_id).order_by(ATTEMPTS.c.id).limit(MOST_ATTEMPTS)
    )

    def read(connection: Connection) -> JobAccount | None:
        row = connection.execute(of_job).one_or_none()
        if row is None:
            return None
        known = dict(row._mapping)
        error = _error(known.pop("result"))
        attempts = tuple(_attempt(found) for found in connection.execute(of_attempts))
        return JobAccount(**known, error=error, attempts=attempts)

    return read


def _error(text: str | None) -> JobError | None:
    result = read_result(text) if text else None
    return result.error if isinstance(result, JobResult) else None


def _attempt(row: Any) -> AttemptAccount:
    origin = from_json(row.origin or "{}")
    return AttemptAccount(
        id=row.id,
        state=row.state,
        number=origin.get("attempt"),
        deployment=str(origin.get("deployment", "")),
        worst_pico=row.worst_pico,
        cost_pico=row.cost_pico,
        windows=row.windows,
        created_at=row.created_at,
        settled_at=row.settled_at,
    )
