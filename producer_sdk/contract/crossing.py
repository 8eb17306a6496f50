"""Where a process touches the outside: every script, commit and call passes through one named crossing.

In service a crossing is walked straight through. The crash tests hand in their own, which records the names and
ends the process just before or just after one of them, so that a new boundary is tested without being listed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Crossing(Protocol):
    """Runs `do` at the boundary called `name` and returns what it returns."""

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """For code on the event loop."""
        ...

    def cross_blocking(self, name: str, do: Callable[[], T]) -> T:
        """For code in a thread of its own (the ledger's writer)."""
        ...


class Straight:
    """The crossing in service: nothing happens here but the thing itself."""

    async def cross(self, _name: str, do: Callable[[], Awaitable[T]]) -> T:
        """Await `do`."""
        return await do()

    def cross_blocking(self, _name: str, do: Callable[[], T]) -> T:
        """Call `do`."""
        return do()
