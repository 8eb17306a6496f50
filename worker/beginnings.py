"""Beginnings: how many of a worker's jobs are between their take and their first call, and whether more may come.

What is made on that way is garbage by the time the call is open. Thousands of jobs that went it at once would make it
all at the same time, and each would wait for the others at the database.
"""

from __future__ import annotations

MOST_BEGINNING = 64
LONG_S = 1.0  # what waits for longer (a database, an answer to a control job) holds up no other job


class Beginnings:
    """Jobs by their delivery's tag, the oldest first. Times are on the monotonic clock, in seconds."""

    def __init__(self, most: int = MOST_BEGINNING) -> None:
        self._most = most
        self._since: dict[str, float] = {}

    def begin(self, tag: str, now: float) -> None:
        """This one was taken."""
        self._since[tag] = now

    def leave(self, tag: str) -> bool:
        """Its call is sent, or it waits in its slot, or has ended. Whether there is room now where none was."""
        was_full = len(self._since) >= self._most
        return self._since.pop(tag, None) is not None and was_full

    def room(self, now: float) -> int:
        """How many more may begin. Those that have taken long count no more."""
        while self._since and now - next(iter(self._since.values())) >= LONG_S:
            del self._since[next(iter(self._since))]
        return max(0, self._most - len(self._since))

    def next_s(self, now: float) -> float:
        """In how many seconds the oldest has taken long."""
        return next((max(0.0, since + LONG_S - now) for since in self._since.values()), LONG_S)
