"""What the ledger's tests write and read: attempts of small numbers, and rows straight from SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy
from sqlalchemy import Table, select

from producer_sdk.contract import Crossing, Job, JobResult, Usage
from tests.worker.job_runs import answer_of, card, deployment, fresh_run, job_of
from worker.job_run import Attempt, JobRun, Lease, PlannedCall
from worker.ledger.database import open_engine
from worker.ledger.ledger import Ledger, Settlement
from worker.ledger.tables import ATTEMPTS, EVENTS, JOBS

TODAY = "t:acme:d:2026-11-23"
WORST = 1000
PAID = Settlement("settled", 120, usage=Usage(input_tokens=10, output_tokens=2), model="s", latency_ms=3)
FREE = Settlement("failed", 0, error_code="overloaded")


@asynccontextmanager
async def opened(
    url: str, *, timeout_s: float = 10.0, crossing: Crossing | None = None
) -> AsyncIterator[Ledger]:
    """A ledger on a database that is migrated already."""
    ledger = Ledger(url, timeout_s=timeout_s, crossing=crossing)
    ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()


def run_with(job: Job | None = None, *, tag: str = "tag", **fields: Any) -> JobRun:
    """A job run on a delivery of that tag, with a message."""
    run = fresh_run(job or job_of(), message=b"the message as it came", **fields)
    run.lease = Lease(tag, confirmed_until=float("inf"))
    return run


def attempt_with(
    run: JobRun | None = None,
    *,
    worst_pico: int = WORST,
    epoch: int = 0,
    windows: Sequence[str] = (TODAY,),
    number: int = 1,
) -> Attempt:
    """An attempt as HoldBudget hands it on."""
    call = PlannedCall(deployment("s"), "small", card(10), worst_pico)
    attempt = Attempt(job_run=run or run_with(), call=call, number=number, timeout_s=5)
    attempt.epoch, attempt.windows = epoch, tuple(windows)
    return attempt


async def journalled(ledger: Ledger, run: JobRun | None = None, **fields: Any) -> Attempt:
    """An attempt in flight."""
    attempt = attempt_with(run, **fields)
    await ledger.journal(attempt, worst_pico=attempt.call.highest_pico)
    return attempt


def final_of(run: JobRun, text: str = "yes", **fields: Any) -> JobResult:
    """The job's result for an answer."""
    return run.result_of(answer_of(text, **fields))


class Sql:
    """Reads the tables on a connection of the test's own."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url, timeout_s=10)

    def rows(self, table: Table) -> list[Any]:
        """All rows of a table, by its key."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(table).order_by(next(iter(table.primary_key)))))

    def attempts(self) -> list[Any]:
        """The journal."""
        return self.rows(ATTEMPTS)

    def events(self) -> list[Any]:
        """The usage rows."""
        return self.rows(EVENTS)

    def jobs(self) -> list[Any]:
        """The jobs."""
        return self.rows(JOBS)

    def ask(self, words: str) -> list[Any]:
        """Any SQL."""
        with self.engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(words)))

    def transaction(self) -> Any:
        """A transaction that the test holds open; on SQLite it locks the file."""
        return self.engine.begin()

    def close(self) -> None:
        """Give back the connection."""
        self.engine.dispose()
