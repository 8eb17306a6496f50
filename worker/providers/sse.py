"""Server-sent events, read as they come (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MOST_LINE_BYTES = 4 * 1024 * 1024
MOST_STREAM_BYTES = 128 * 1024 * 1024


class Event(NamedTuple):
    """One event: its name ("" when the stream gives none) and its data."""

    name: str
    data: bytes


class StreamTooLarge(Exception):
    """A line or the whole stream is over its limit; `what` says which."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the {what} is over its limit")
        self.what = what


class EventStream:
    """Turns bytes into events, whatever way the network cuts them."""

    def __init__(self, *, most_line: int = MOST_LINE_BYTES, most_total: int = MOST_STREAM_BYTES) -> None:
        self._most_line = most_line
        self._left = most_total
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes. Raises StreamTooLarge."""
        self._left -= len(chunk)
        if self._left < 0:
            raise StreamTooLarge("stream")
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > self._most_line:
            raise StreamTooLarge("line")
        for line in lines:
            event = self._line(line[:-1] if line[-1:] == b"\r" else line)
            if event is not None:
                yield event

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._completed()
        field, _colon, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            self._size += len(value) + 1
            if self._size > self._most_line:
                raise StreamTooLarge("line")
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("ascii", "replace")
        return None

    def _completed(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        if not data:
            return None
        return Event(name, data[0] if len(data) == 1 else b"\n".join(data))
