"""The provider twin in a process of its own, told how long to think and how much to say."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import python


@dataclass(frozen=True)
class Twin:
    """A running twin; `url` and /v1 is its OpenAI base URL."""

    url: str

    def begin_anew(self, **behaviour: int) -> None:
        """Empty books, and from now on every call is answered in this way."""
        self._ask("/twin/reset", b"")
        self._ask("/twin/behave", json.dumps([behaviour]).encode())

    def misbehave(self, *rules: Mapping[str, object]) -> None:
        """Empty books, and these rules from now on."""
        self._ask("/twin/reset", b"")
        self._ask("/twin/behave", json.dumps(rules).encode())

    def calls(self) -> list[dict[str, object]]:
        """Its books, a call a row."""
        return list(json.loads(self._ask("/twin/books?after=0"))["calls"])

    def billed_usd(self) -> float:
        """By its own books, in which every call must have been billed."""
        totals = json.loads(self._ask("/twin/books"))["totals"]
        assert totals["calls"] == totals["billed"], totals
        return float(totals["cost_pico"]) / 1e12

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            return bytes(reply.read())


@contextlib.contextmanager
def open_twin(folder: Path) -> Iterator[Twin]:
    """A twin that keeps its books in this folder."""
    command = python("worker.embedded.twin", "--port", "0", "--books", str(folder / "books.jsonl"))
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert child.stdout
        yield Twin(json.loads(child.stdout.readline())["url"])
    finally:
        child.kill()
        child.wait(20)
