"""The twin's own books: every call it served, what it billed for it and how it ended."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from worker.embedded.twin.asked import Counts
from worker.embedded.twin.prices import TWIN_PRICES


@dataclass(frozen=True)
class Call:
    """One call. `finished`: open, complete, status, client_closed, broken, dropped. `key`: `mark_of` the key it had."""

    number: int
    attempt: str | None
    dialect: str
    model: str
    started: float
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    long_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_pico: int = 0
    billed: bool = False
    finished: str = "open"
    key: str = ""


def mark_of(key: str) -> str:
    """By what the books tell keys apart, without holding any."""
    return hashlib.sha256(key.encode()).hexdigest()[:8] if key else ""


def cost_of(model: str, counts: Counts) -> int:
    """What the twin charges, in pico-dollars, by its own table."""
    price = TWIN_PRICES[model]
    plain = counts.input_tokens - counts.cache_read_tokens - counts.cache_write_tokens
    short = counts.cache_write_tokens - counts.long_write_tokens
    writes = short * price.cache_write + counts.long_write_tokens * price.cache_write_long
    reads = counts.cache_read_tokens * price.cache_read
    return plain * price.input + writes + reads + counts.output_tokens * price.output


class Books:
    """The calls in memory and, with a path, as JSON lines that outlive a kill: the last line of a number counts."""

    def __init__(self, path: Path | None = None) -> None:
        self._calls: dict[int, Call] = {}
        self._file: int | None = None
        if path:
            self._calls = _read(path)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._file, b"\n")  # a kill may have cut the last line short
        self._next = max(self._calls, default=0) + 1

    def open(self, *, attempt: str | None, dialect: str, model: str, key: str = "") -> int:
        """A call has arrived; nothing is billed yet."""
        number, self._next = self._next, self._next + 1
        self._write(Call(number, attempt, dialect, model, started=time.time(), key=mark_of(key)))
        return number

    def generating(self, number: int, counts: Counts, *, billed: bool = True) -> None:
        """Tokens so far: from here on the call costs money, however it ends."""
        self._write(_counted(self._calls[number], counts, billed=billed))

    def close(self, number: int, finished: str, *, status: int = 0, counts: Counts | None = None) -> None:
        """The call is over; `counts` are its last ones, else those known so far stand."""
        call = self._calls[number]
        if counts is not None:
            call = _counted(call, counts, billed=True)
        self._write(replace(call, finished=finished, status=status))

    def calls(self, *, after: int = 0) -> list[Call]:
        """Every call with a number above `after`, in the order they arrived."""
        return [call for number, call in sorted(self._calls.items()) if number > after]

    def totals(self) -> dict[str, int]:
        """Sums over every call."""
        return _totals(self._calls.values())

    def reset(self) -> None:
        """Forget every call, also those in the file; numbers go on."""
        self._calls.clear()
        if self._file is not None:
            os.ftruncate(self._file, 0)

    def shut(self) -> None:
        """Give the file back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, call: Call) -> None:
        self._calls[call.number] = call
        if self._file is not None:
            os.write(self._file, json.dumps(asdict(call), separators=(",", ":")).encode() + b"\n")


def _counted(call: Call, counts: Counts, *, billed: bool) -> Call:
    return replace(
        call,
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        cache_read_tokens=counts.cache_read_tokens,
        cache_write_tokens=counts.cache_write_tokens,
        long_write_tokens=counts.long_write_tokens,
        reasoning_tokens=counts.reasoning_tokens,
        cost_pico=cost_of(call.model, counts) if billed else 0,
        billed=billed,
    )


def _totals(calls: Iterable[Call]) -> dict[str, int]:
    totals = {"calls": 0, "open": 0, "billed": 0, "cost_pico": 0, "input_tokens": 0, "output_tokens": 0}
    for call in calls:
        totals["calls"] += 1
        totals["open"] += call.finished == "open"
        totals["billed"] += call.billed
        totals["cost_pico"] += call.cost_pico
        totals["input_tokens"] += call.input_tokens * call.billed
        totals["output_tokens"] += call.output_tokens * call.billed
    return totals


def _read(path: Path) -> dict[int, Call]:
    """The calls of an earlier life. A line that a kill has cut short is skipped; the one before it stands."""
    if not path.exists():
        return {}
    names = {field.name for field in fields(Call)}
    calls: dict[int, Call] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        call = Call(**{name: value for name, value in entry.items() if name in names})
        calls[call.number] = replace(call, finished="broken") if call.finished == "open" else call
    return calls
