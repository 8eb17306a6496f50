"""What the writer can be asked to do. Operations of one group share a transaction and its round trips.

Each may be done twice: a commit whose reply was lost is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Operation(Protocol):
    """One thing to do."""

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        ...

    @property
    def size_bytes(self) -> int:
        """About how much of a message or an answer it writes."""
        ...

    @property
    def group(self) -> object:
        """Operations with an equal group are done together."""
        ...

    def together(self, connection: Connection, operations: Sequence[Any]) -> Sequence[Any]:
        """Do all of these (self is the first) inside one transaction.

        One outcome for each, in order; an outcome that is a WorkerError is raised to its caller.
        """
        ...


class Statement(Generic[T]):
    """Any statement, in a transaction of its own."""

    size_bytes = 0

    def __init__(self, run: Callable[[Connection], T], *, writes: bool = False) -> None:
        self.writes = writes
        self._run = run

    @property
    def group(self) -> object:
        """Nobody shares it."""
        return self

    def together(self, connection: Connection, _operations: Sequence[Any]) -> list[T]:
        """Run it."""
        return [self._run(connection)]
