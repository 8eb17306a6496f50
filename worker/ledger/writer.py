"""The one thread that talks to the database. Whatever waits goes into one transaction: group commit.

A commit is a disk's flush, some milliseconds; two hundred callers share it. Database errors that pass are repeated
until a caller's time is over; what the database refuses for its content fails alone.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from producer_sdk.contract import Crossing
from worker.errors import LedgerRefused, LedgerUnavailable, WorkerError
from worker.ledger.database import FAILURES, READ_ONLY, Line, needs_migration, passes, told
from worker.ledger.operations import Operation

MOST_TOGETHER = 200
MOST_BYTES_TOGETHER = (
    8 * 1024 * 1024
)  # a statement holds all its rows, and PostgreSQL takes no more than 1 GB
MOST_WAITING = 20_000
PAUSE_S = 0.05
logger = logging.getLogger(__name__)


@dataclass
class Waiting:
    """An operation, and who waits for it until when."""

    operation: Operation
    future: asyncio.Future[Any]
    deadline: float
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)


class Writer:
    """Takes operations from event loops, and answers them from its thread."""

    def __init__(self, engine: Engine, *, timeout_s: float, crossing: Crossing) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._crossing = crossing
        self._queue: queue.Queue[Waiting | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._is_open = False
        self._line = Line()

    def start(self) -> None:
        """Start the thread, or start it again after a failure that nobody had thought of."""
        self._is_open = True
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Do what waits, then end the thread and its connection."""
        self._is_open = False
        if self._thread is not None and self._thread.is_alive():
            await asyncio.to_thread(self._queue.put, None, timeout=self._timeout_s)
            await asyncio.to_thread(self._thread.join, 3 * self._timeout_s)
        self._engine.dispose()

    async def do(self, operation: Operation) -> Any:
        """The operation's outcome. Raises LedgerUnavailable, LedgerRefused, or the outcome if it is an error."""
        if not self._is_open:
            raise LedgerUnavailable("the ledger is not open")
        self.start()
        future = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(Waiting(operation, future, time.monotonic() + self._timeout_s))
        except queue.Full as error:
            raise LedgerUnavailable("too much waits for the database") from error
        try:
            # The thread keeps the deadline itself; this is for the day on which the server hangs.
            async with asyncio.timeout(self._timeout_s * 1.25):
                return await future
        except TimeoutError as error:
            self._line.cut(older_than_s=self._timeout_s)
            raise LedgerUnavailable(f"the database did not answer within {self._timeout_s:g} s") from error

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            waiting = list(batch)
            try:
                for group in _groups(batch):
                    self._answer(group)
                waiting = []
            finally:
                _tell(waiting, [LedgerUnavailable("the ledger's writer has failed")] * len(waiting))

    def _gather(self) -> tuple[list[Waiting], bool]:
        batch: list[Waiting] = []
        size_bytes = 0
        found = self._queue.get()
        while found is not None:
            batch.append(found)
            size_bytes += found.operation.size_bytes
            if len(batch) == MOST_TOGETHER or size_bytes > MOST_BYTES_TOGETHER:
                return batch, True
            try:
                found = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _answer(self, group: Sequence[Waiting]) -> None:
        """Do a group until it is done, or its time is over."""
        pause, refusals, why = PAUSE_S, 0, "the database was busy"
        while group := _in_time(group, why):
            try:
                _tell(group, self._transact(group))
                return
            except FAILURES as error:
                self._engine.dispose()
                why = told(error)
                if needs_migration(error):
                    _tell(group, [LedgerUnavailable(why)] * len(group))
                    return
                if passes(error):
                    logger.warning("a batch of %d is repeated: %s", len(group), why)
                    time.sleep(min(pause, _time_left(group)))
                    pause = min(2 * pause, 1.0)
                elif len(group) > 1:
                    logger.warning("a batch of %d is done one by one: %s", len(group), why)
                    for waiting in group:
                        self._answer([waiting])
                    return
                elif (refusals := refusals + 1) > 1:
                    # Not raised from the error: it may quote the row.
                    _tell(group, [LedgerRefused(f"the database refuses the row: {why}")])
                    return

    def _transact(self, group: Sequence[Waiting]) -> Sequence[Any]:
        first = group[0].operation
        operations = [waiting.operation for waiting in group]

        def transaction() -> Sequence[Any]:
            with self._engine.connect() as connection, self._line.open(connection):
                if not first.writes:
                    connection.execution_options(**{READ_ONLY: True})
                with connection.begin():
                    return first.together(connection, operations)

        return self._crossing.cross_blocking("sql:commit", transaction) if first.writes else transaction()


def _groups(batch: Sequence[Waiting]) -> Iterable[list[Waiting]]:
    groups: dict[object, list[Waiting]] = {}
    for waiting in batch:
        groups.setdefault(waiting.operation.group, []).append(waiting)
    return groups.values()


def _in_time(group: Sequence[Waiting], why: str) -> list[Waiting]:
    """Those that somebody still waits for; the late ones are told why."""
    now = time.monotonic()
    late = [waiting for waiting in group if waiting.deadline <= now]
    said = f"the ledger's database does not answer ({why}): start it, or check FAIRLANE_LEDGER_URL"
    _tell(late, [LedgerUnavailable(said)] * len(late))
    return [waiting for waiting in group if waiting.deadline > now and not waiting.future.cancelled()]


def _time_left(group: Sequence[Waiting]) -> float:
    return max(0.0, max(waiting.deadline for waiting in group) - time.monotonic())


def _tell(group: Sequence[Waiting], outcomes: Sequence[Any]) -> None:
    """Hand each caller its outcome, with one wake-up a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for waiting, outcome in zip(group, outcomes, strict=True):
        by_loop.setdefault(waiting.loop, []).append((waiting.future, outcome))
    for loop, pairs in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in pairs:
        if future.done():
            continue
        if isinstance(outcome, WorkerError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
