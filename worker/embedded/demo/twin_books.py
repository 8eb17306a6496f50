"""The provider's own books, to hold the ledger against: one amount for each attempt that the twin billed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from worker.errors import FleetDown

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Line:
    """One call, as a book has it."""

    tokens: int
    cost_pico: int


@dataclass(frozen=True)
class Comparison:
    """Ledger rows beside the provider's calls, matched by the attempt id that travelled in a header."""

    ledger: Mapping[UUID, Line]
    provider: Mapping[UUID, Line]

    @property
    def differing(self) -> list[UUID]:
        """Attempts that only one book has, or that cost something else in the other."""
        either = self.ledger.keys() | self.provider.keys()
        return sorted(key for key in either if self.ledger.get(key) != self.provider.get(key))

    @property
    def ledger_pico(self) -> int:
        """What the ledger says was spent, in pico-dollars."""
        return sum(line.cost_pico for line in self.ledger.values())

    @property
    def provider_pico(self) -> int:
        """What the provider says it billed, in pico-dollars."""
        return sum(line.cost_pico for line in self.provider.values())

    @property
    def equal(self) -> bool:
        """Whether both books say the same of every attempt."""
        return not self.differing


def read_twin_books(url: str) -> dict[UUID, Line]:
    """What the twin billed, by attempt; a call without an attempt's id is listed under its number.

    Raises FleetDown when it does not answer.
    """
    try:
        with urllib.request.urlopen(f"{url}/twin/books", timeout=TIMEOUT_S) as reply:  # noqa: S310 - our own twin
            calls = json.load(reply)["calls"]
    except (urllib.error.URLError, TimeoutError, ValueError, KeyError) as error:
        raise FleetDown("the provider twin does not show its books: see its log in the home") from error
    lines: dict[UUID, Line] = {}
    for call in calls:
        if call["billed"]:
            key = UUID(call["attempt"]) if call["attempt"] else UUID(int=call["number"])
            before = lines.get(key, Line(0, 0))
            tokens = call["input_tokens"] + call["output_tokens"]
            lines[key] = Line(before.tokens + tokens, before.cost_pico + call["cost_pico"])
    return lines
