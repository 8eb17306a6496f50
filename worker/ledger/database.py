"""One connection to the ledger's database: SQLite with WAL and FULL, or PostgreSQL; every wait on it has an end."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from worker.errors import ConfigError

READ_ONLY = "fairlane_read_only"
# What a transaction can raise: the database's errors, and what a defect in one operation can raise.
FAILURES = (
    SQLAlchemyError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_NOT_THERE = ("42P01", "42703")


def open_engine(url: str, *, timeout_s: float) -> Engine:
    """An engine of one connection. Raises ConfigError for a URL that it cannot open."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError("FAIRLANE_LEDGER_URL is no SQLAlchemy URL: see docs/ledger.md") from error
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(url, timeout_s)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(url, timeout_s)
    raise ConfigError("FAIRLANE_LEDGER_URL: use sqlite:///… or postgresql+psycopg2://…")


def _sqlite(url: str, timeout_s: float) -> Engine:
    # Half of the time: who waits for another process' transaction gets a second try.
    engine = create_engine(
        url, pool_size=1, max_overflow=0, hide_parameters=True, connect_args={"timeout": timeout_s / 2}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that reads first and then writes fails at once when another has written meanwhile.
        reads = connection.get_execution_options().get(READ_ONLY)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: str, timeout_s: float) -> Engine:
    milliseconds = max(1, int(timeout_s * 1000))
    settings = {"statement_timeout": milliseconds, "lock_timeout": milliseconds, "timezone": "UTC"}
    # A worker that is gone or stopped in the middle of a transaction must not keep its locks.
    settings["idle_in_transaction_session_timeout"] = milliseconds
    return create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        executemany_mode="values_plus_batch",
        hide_parameters=True,
        connect_args={
            "connect_timeout": max(2, int(timeout_s)),
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            "application_name": "fairlane",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": milliseconds,
        },
    )


def passes(error: Exception) -> bool:
    """Whether a failure may pass by itself: all of the database's but those about what is in a row."""
    return isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError)


def needs_migration(error: Exception) -> bool:
    """Whether a table or a column is not there: that does not pass by itself."""
    if not isinstance(error, DBAPIError):
        return False
    return _code(error) in _NOT_THERE or str(error.orig).startswith(("no such table", "no such column"))


def told(error: Exception) -> str:
    """A failure in words that hold nothing of a row."""
    if needs_migration(error):
        return "the ledger's tables are missing or older than this version: run `fairlane migrate`"
    if isinstance(error, DBAPIError):
        return f"{type(error.orig).__name__} {_code(error)}".strip()
    return f"{type(error).__name__} in {_place(error)}"


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


def _code(error: DBAPIError) -> str:
    """PostgreSQL's SQLSTATE; SQLite has none."""
    return getattr(error.orig, "pgcode", None) or ""


class Line:
    """The transaction under way. A server that hangs answers no timeout of its own, and SQLite has none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: int | None = None
        self._sqlite: sqlite3.Connection | None = None
        self._since = 0.0

    @contextmanager
    def open(self, connection: Connection) -> Iterator[None]:
        """While the transaction runs on this connection."""
        driver: Any = connection.connection.driver_connection
        with self._lock:
            self._since = time.monotonic()
            if isinstance(driver, sqlite3.Connection):
                self._sqlite = driver
            else:
                self._socket = driver.fileno()
        try:
            yield
        finally:
            with self._lock:
                self._socket = self._sqlite = None

    def cut(self, *, older_than_s: float) -> None:
        """End a transaction that has waited so long; its thread gets an error."""
        with self._lock:
            if time.monotonic() - self._since <= older_than_s:
                return
            if self._sqlite is not None:
                self._sqlite.interrupt()
            if self._socket is not None:
                with suppress(OSError), socket.socket(fileno=os.dup(self._socket)) as line:
                    line.shutdown(socket.SHUT_RDWR)
