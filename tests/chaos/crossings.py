"""Crossings of the crash tests: every boundary is written down, and at one of them the process is struck."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import httpx
import redis.exceptions
import sqlalchemy.exc
from pydantic import BaseModel

T = TypeVar("T")
STRUCK = "struck at "


class Mode(StrEnum):
    """What happens to a process at a boundary."""

    DIES_BEFORE = "dies just before"
    DIES_AFTER = "dies just after it took effect"
    REPEATS = "its reply is lost and the client repeats it"
    GIVES_UP = "its reply is lost and the client gives up"
    PAUSES = "is stopped just before"
    STANDS_STILL = "its loop stands still just before"

    @property
    def is_deadly(self) -> bool:
        return self in (Mode.DIES_BEFORE, Mode.DIES_AFTER)


class Boundary(BaseModel, frozen=True):
    """The n-th time that a process crosses the boundary of this name."""

    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.name} ({self.nth})"


class Tracing:
    """Walks straight through, and writes down each boundary's name just before."""

    def __init__(self, trace: Path) -> None:
        self._file = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._crossed: Counter[str] = Counter()
        self._lock = threading.Lock()

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        self.note(name)
        return await do()

    def cross_blocking(self, name: str, do: Callable[[], T]) -> T:
        self.note(name)
        return do()

    def note(self, name: str) -> Boundary:
        with self._lock:
            self._crossed[name] += 1
            self.write(name)
            return Boundary(name=name, nth=self._crossed[name])

    def write(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


class Striking(Tracing):
    """At one boundary something happens to the process, or to the boundary's reply."""

    def __init__(self, trace: Path, at: Boundary, mode: Mode) -> None:
        super().__init__(trace)
        self._at = at
        self._mode = mode

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        if self.note(name) != self._at:
            return await do()
        self._before()
        reply = await do()
        self._after(name)
        return await do() if self._mode is Mode.REPEATS else reply

    def cross_blocking(self, name: str, do: Callable[[], T]) -> T:
        if self.note(name) != self._at:
            return do()
        self._before()
        reply = do()
        self._after(name)
        return do() if self._mode is Mode.REPEATS else reply

    def _before(self) -> None:
        if self._mode in (Mode.DIES_BEFORE, Mode.PAUSES, Mode.STANDS_STILL):
            self.write(f"{STRUCK}{self._at}: {self._mode}")
        if self._mode is Mode.DIES_BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._mode is Mode.PAUSES:
            signal.pthread_kill(
                threading.get_ident(), signal.SIGSTOP
            )  # kill() would let this thread go on a bit
        if self._mode is Mode.STANDS_STILL:
            threading.Event().wait(600)

    def _after(self, name: str) -> None:
        if self._mode in (Mode.DIES_AFTER, Mode.REPEATS, Mode.GIVES_UP):
            self.write(f"{STRUCK}{self._at}: {self._mode}")
        if self._mode is Mode.DIES_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._mode in (Mode.REPEATS, Mode.GIVES_UP) and name.startswith("call:"):
            raise httpx.ReadError("the connection broke here")
        if self._mode is Mode.GIVES_UP and name.startswith("redis:"):
            raise redis.exceptions.ConnectionError("the connection broke here")
        if self._mode is Mode.GIVES_UP:
            raise sqlalchemy.exc.OperationalError("COMMIT", {}, OSError("the connection broke here"))


def read_trace(trace: Path) -> list[str]:
    """The names crossed so far, in order."""
    lines = trace.read_text().splitlines() if trace.exists() else []
    return [line for line in lines if not line.startswith(STRUCK)]


def was_struck(trace: Path) -> bool:
    return trace.exists() and STRUCK in trace.read_text()


def boundaries(names: Iterable[str]) -> list[Boundary]:
    """Each crossing of a recorded life, in its order."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(Boundary(name=name, nth=seen[name]))
    return found
