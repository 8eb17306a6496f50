"""What one delivery says in its job's stream: events that wait to be appended, in a bounded buffer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from producer_sdk.contract import JobResult, StreamEvent
from producer_sdk.lanes import Appended
from worker.streaming import rules


class StreamWriter:
    """One answer stands at a time: the text since the last `begin`. Nothing here waits.

    Of calls that run side by side the first to speak is heard until it ends. Where the buffer cannot hold what comes,
    what stands is given up: the answer is said as a whole once it is known.
    """

    def __init__(self, tag: str, *, most_waiting: int, woken: Callable[[StreamWriter], None]) -> None:
        self.tag = tag
        self.closed = False
        self.settled = asyncio.Event()
        self.settled.set()
        self.waiting = 0  # characters
        self._most_waiting = most_waiting
        self._woken = woken
        self._speaker: UUID | None = None
        self._attempt = 0
        self._said: list[str] = []
        self._length = 0  # of what was said and appended, or is under way
        self._stands = False
        self._broken = False
        self._fenced = False
        self._unsaid: list[str] = []
        self._events: list[StreamEvent] = []
        self._under_way: Appended | None = None
        self._number = 0

    def listen_to(self, call: UUID, attempt: int) -> Callable[[str], None]:
        """What takes the text of this call as it comes. What an earlier call has said is void from now on."""
        if self._stands and self._speaker is None:
            self._begin(attempt, call)
        return lambda text: self._hear(text, call, attempt)

    def leave(self, call: UUID) -> None:
        """The call has ended, whatever it came to."""
        if self._speaker == call:
            self._speaker = None

    def conclude(self, result: JobResult) -> None:
        """The answer is known: say what of it does not stand yet."""
        attempt = rules.told_by(result)
        if self._broken or "".join(self._said) != result.text:
            self._begin(attempt)
            if len(result.text) <= rules.LONGEST_WHOLE_CHARACTERS:
                self._say(result.text)
        if asked := rules.calls(result.tool_calls, attempt=attempt):
            if not self._stands:
                self._begin(attempt)
            self._add(asked)

    def take(self) -> Appended | None:
        """The next append; the same one again while nobody has said that it was done."""
        if self._under_way is None:
            self._write_up()
            if self._events:
                self._number += 1
                written = tuple(event.written() for event in self._events)
                self._under_way, self._events = Appended(self.tag, self._number, written), []
                self.waiting = 0
        return self._under_way

    def appended(self, *, is_live: bool) -> None:
        """The append that was taken is done, or this delivery may write no more."""
        self._under_way = None
        self._fenced = self._fenced or not is_live
        if self._fenced:
            self._drop()
        if not self.has_more:
            self.settled.set()

    @property
    def has_more(self) -> bool:
        """Whether anything waits to be appended."""
        return bool(self._events or self._unsaid or self._under_way)

    def give_up(self) -> None:
        """What stands cannot be kept whole: nothing more of it is said."""
        self._broken = True
        self._drop()

    def _hear(self, text: str, call: UUID, attempt: int) -> None:
        if not text or self._speaker not in (None, call):
            return
        if self._speaker is None:
            self._begin(attempt, call)
        if self.waiting + len(text) > self._most_waiting:
            self.give_up()
        self._say(text)

    def _begin(self, attempt: int, call: UUID | None = None) -> None:
        self._speaker, self._attempt = call, attempt
        self._said, self._length = [], 0
        self._events, self._unsaid, self.waiting = [], [], 0  # void: nobody need read them
        self._stands, self._broken = True, False
        self._add(StreamEvent(kind="begin", attempt=attempt))

    def _say(self, text: str) -> None:
        if self._broken or self._fenced or not text:
            return
        self._said.append(text)
        self._unsaid.append(text)
        self._wake(len(text))

    def _add(self, event: StreamEvent) -> None:
        if self._fenced:
            return
        self._write_up()
        self._events.append(event)
        self._wake(1)

    def _write_up(self) -> None:
        """What was said last as events."""
        written = list(rules.texts(self._unsaid, attempt=self._attempt, at=self._length))
        self._length += sum(len(event.text) for event in written)
        self._events += written
        self._unsaid = []

    def _wake(self, characters: int) -> None:
        self.waiting += characters
        self.settled.clear()
        self._woken(self)

    def _drop(self) -> None:
        self._events, self._unsaid, self.waiting = [], [], 0
        if self._under_way is None:
            self.settled.set()
