"""Rows per second of the ledger's one writer ÷ the same changes committed one by one, with the same durability."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.money_rig import DISK, Kind, database, filesystem, scratch
from benchmarks.rig import table, timed
from producer_sdk.contract import JobResult, uuid7
from tests.worker.ledger.writing import PAID, attempt_with, final_of, opened, run_with
from worker.job_run import Attempt, utc_now
from worker.ledger.database import open_engine
from worker.ledger.ledger import Ledger
from worker.ledger.tables import EVENTS

CALLERS = 200  # as many as a worker has slots
ROWS, SINGLE_ROWS, RUNS, FLUSHES = 3_000, 300, 5, 200
BARE = "INSERT INTO llm_usage_events (id, tenant_id, feature_name, model_id, input_tokens, output_tokens, "
BARE += "cost_usd, created_at) VALUES ({})"
Act = Callable[[Ledger, Attempt, JobResult], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """A database: its kind, PostgreSQL's fsync, and the folder of its data; None: in memory."""

    kind: Kind
    where: Path | None
    fsync: bool = True

    def durability(self) -> str:
        """As the server calls it."""
        return "synchronous FULL" if self.kind == "SQLite" else f"fsync {'on' if self.fsync else 'off'}"


PLACES = (
    Place("SQLite", DISK),
    Place("SQLite", None),
    Place("PostgreSQL", DISK),
    Place("PostgreSQL", None, fsync=False),
)


async def failed(ledger: Ledger, attempt: Attempt, _final: JobResult) -> None:
    """Two changes: journal, and settle with the usage row, as of an attempt that another one follows."""
    await ledger.journal(attempt, worst_pico=attempt.call.highest_pico)
    await ledger.settle(attempt, PAID)


async def answered(ledger: Ledger, attempt: Attempt, final: JobResult) -> None:
    """Two changes: journal, and settle with the usage row and the job's final row."""
    await ledger.journal(attempt, worst_pico=attempt.call.highest_pico)
    await ledger.settle(attempt, PAID, final=final)


async def whole(ledger: Ledger, attempt: Attempt, final: JobResult) -> None:
    """Three changes: the third says that Redis has the amount, as for every tenant with a budget."""
    await answered(ledger, attempt, final)
    await ledger.mirrored({attempt.id: (0, PAID.cost_pico)})


async def rows_a_second(url: str, act: Act, *, rows: int, callers: int) -> float:
    """Usage rows; each of the callers waits for a change before it asks for the next."""
    runs = [run_with() for _ in range(rows)]
    jobs = iter([(attempt_with(job_run), final_of(job_run)) for job_run in runs])

    async def caller(ledger: Ledger) -> None:
        for attempt, final in jobs:
            await act(ledger, attempt, final)

    async with opened(url) as ledger:
        await ledger.epoch()
        before = usage_rows(url)
        began = time.perf_counter()
        await asyncio.gather(*(caller(ledger) for _ in range(callers)))
        seconds = time.perf_counter() - began
    assert usage_rows(url) - before == rows
    return rows / seconds


def usage_rows(url: str) -> int:
    """How many there are."""
    engine = open_engine(url, timeout_s=10)
    with engine.connect() as connection:
        count = connection.execute(select(func.count()).select_from(EVENTS)).scalar_one()
    engine.dispose()
    return int(count)


def bare_inserts(url: str) -> float:
    """A row of eight columns and its commit, one after another, by the driver itself: nothing read, nothing checked."""
    engine = open_engine(url, timeout_s=10)
    is_sqlite = engine.dialect.name == "sqlite"
    statement = BARE.format(", ".join(["?" if is_sqlite else "%s"] * 8))
    with engine.connect() as connection:

        def insert() -> None:
            key = uuid7()
            values = (key.hex if is_sqlite else str(key), "acme", "chat", "small", 10, 2, "0.000000000120")
            with connection.begin():
                connection.exec_driver_sql(statement, (*values, utc_now().isoformat()))

        insert()
        seconds = sum(timed(insert) for _ in range(SINGLE_ROWS))
    engine.dispose()
    return SINGLE_ROWS / seconds


def flush_ms(folder: Path) -> float:
    """One fsync of a file that has grown by 4 KB, the median."""

    def flushes() -> Iterator[float]:
        with (folder / "flushed").open("wb", buffering=0) as file:
            for _ in range(FLUSHES):
                file.write(b"x" * 4096)
                yield timed(lambda: os.fsync(file.fileno()))

    return 1000 * statistics.median(flushes())


def row(place: Place, runs: int) -> list[str]:
    """One database's row; what is compared takes turns, for machines are shared and noisy."""
    with scratch(where=place.where) as folder, database(place.kind, folder, fsync=place.fsync) as url:
        flush, where = flush_ms(folder), filesystem(folder)
        measures: dict[str, Callable[[], float]] = {
            act.__name__: lambda a=act: asyncio.run(rows_a_second(url, a, rows=ROWS, callers=CALLERS))  # type: ignore[misc]
            for act in (failed, answered, whole)
        }
        measures["single"] = lambda: asyncio.run(rows_a_second(url, answered, rows=SINGLE_ROWS, callers=1))
        measures["bare"] = lambda: bare_inserts(url)
        turns = [{name: measure() for name, measure in measures.items()} for _ in range(runs)]
    rate = {name: statistics.median(turn[name] for turn in turns) for name in measures}
    return [
        f"{place.kind}, {place.durability()}",
        f"{where}, {flush:.3f}",
        f"{rate['answered']:,.0f}",
        f"{2 * rate['answered']:,.0f}",
        f"{rate['failed']:,.0f}",
        f"{rate['whole']:,.0f}",
        f"{rate['single']:,.0f}",
        f"{rate['answered'] / rate['single']:.1f}",
        f"{rate['bare']:,.0f}",
    ]


def run(*, short: bool = False) -> str:
    """The table, a database a row."""
    runs = 1 if short else RUNS
    head = [
        "ledger",
        "its data on, ms an fsync",
        "usage rows/s (SQLite ≥ 3,000, PostgreSQL ≥ 2,000)",
        "changes/s",
        "… of attempts alone",
    ]
    head += ["… mirrored too", "… one change a commit", "÷ one a commit (SQLite ≥ 8)", "bare INSERTs/s"]
    title = f"Ledger rows of one writer, {CALLERS} callers ({ROWS:,} attempts, median of {runs})"
    return table(title, [head, *(row(place, runs) for place in PLACES)])


if __name__ == "__main__":
    print(run(short="--short" in sys.argv))
