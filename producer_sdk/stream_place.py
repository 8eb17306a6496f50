"""Where a reader is in a job's stream, whether what it was told is whole, and what mends it where it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from producer_sdk.contract import JobResult, StreamEvent

EntryId = tuple[int, int]  # when the stream was made, the entry's number in it
BEGINNING: EntryId = (0, 0)
_ID = re.compile(r"(\d{1,18})-([1-9]\d{0,17})")  # a stream begins with number 1


def entry_id(text: str) -> EntryId:
    """An event's id. Raises ValueError, saying what it must be."""
    found = _ID.fullmatch(text)
    if not found:
        raise ValueError(
            f"after: give the id of an event of this job's stream, such as 1767225600000-7, not {text[:40]!r}"
        )
    return int(found[1]), int(found[2])


class StreamPlace:
    """One reader's place. Of entries that are missing, and of text that is not all there, the job's result is the cure.

    `after` is the id of the last event that was told before, perhaps to another process: that one is read once more,
    for it says how much was told.
    """

    def __init__(self, after: str = "") -> None:
        self._after = entry_id(after) if after else None
        self._told = after
        self._is_whole = True
        self._length: int | None = 0  # of the text that stands; None: not known
        self.last = BEGINNING
        self.is_over = False  # the job has ended
        self.is_told = False  # and so has what its reader was told
        if self._after:
            self.last, self._length = (self._after[0], self._after[1] - 1), None

    def take(self, at: EntryId, event: StreamEvent | None) -> StreamEvent | None:
        """What to tell of the next entry; None where that is nothing: known already, unknown, or to be mended."""
        if at <= self.last:
            return None
        self._is_whole = self._is_whole and self._follows(at)
        self.last = at
        found = self._judged(event) if event else None
        if found is None or (at == self._after and not self.is_told):
            return None
        self._told = found.id
        return found

    def mended(self, result: JobResult) -> Iterator[StreamEvent]:
        """The whole answer and its end, in place of what is missing.

        They carry the id of what was told before them: whoever stops among them is told them all again.
        """
        self.is_over = self.is_told = True
        whole = _whole(result) if result.status == "succeeded" else []
        attempt = result.attempts[-1].number if result.attempts else 0
        end = StreamEvent(kind="end", attempt=attempt, status=result.status, length=len(result.text))
        for event in (*whole, end):
            yield event.model_copy(update={"attempt": attempt, "id": self._told})

    def _follows(self, at: EntryId) -> bool:
        made = at[0] if self.last == BEGINNING else self.last[0]
        return at == (made, self.last[1] + 1)

    def _judged(self, event: StreamEvent) -> StreamEvent | None:
        """The event, where all before it is there."""
        if event.kind == "end":
            return self._ended(event)
        if event.kind == "begin":
            self._is_whole, self._length = True, 0
        elif event.kind == "text":
            self._is_whole = self._is_whole and self._length in (None, event.at)
            self._length = event.at + len(event.text)
        return event if self._is_whole else None

    def _ended(self, event: StreamEvent) -> StreamEvent | None:
        """The end, where the answer before it is all there; a job without an answer just ends."""
        self.is_over = True
        is_all = self._is_whole and self._length in (None, event.length)
        self.is_told = is_all or event.status != "succeeded"
        return event if self.is_told else None


def _whole(result: JobResult) -> list[StreamEvent]:
    events = [StreamEvent(kind="begin")]
    if result.text:
        events.append(StreamEvent(kind="text", text=result.text))
    if result.tool_calls:
        events.append(StreamEvent(kind="tool_calls", tool_calls=result.tool_calls))
    return events if len(events) > 1 else []
