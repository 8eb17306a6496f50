"""A job's story: what each step notes of it as it runs, bounded, so that `fairlane explain` has nothing to guess.

Facts are names, numbers, codes and reasons that the fleet itself has made: never a prompt, an answer, a quote or a key.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json, to_json

MOST_EVENTS = 64
FIRST_KEPT = 20  # of a story that is too long, the middle is left out
MOST_BYTES = 12_000
MOST_EVENT_BYTES = 5_000
MOST_TEXT = 160
MOST_ITEMS = 12
TAKEN, HANDED_BACK = ("lane", "taken"), ("lane", "handed_back")


@dataclass(frozen=True)
class StoryEvent:
    """What one step has noted. `at_ms` is Unix milliseconds, by the broker's clock."""

    at_ms: int
    step: str
    what: str
    facts: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[str, str]:
        """The step, and what it was."""
        return self.step, self.what


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Story:
    """What is known of a job: `earlier` are the events of earlier deliveries, `rows` those of this one, as JSON.

    `began_ms` and `began` are one moment, by the broker's clock and by this process's monotonic one. `noted` counts
    all earlier events that were ever noted, also those that are not kept.
    """

    earlier: Sequence[StoryEvent] = ()
    noted: int = 0
    began_ms: int = field(default_factory=_now_ms)
    began: float = field(default_factory=time.monotonic)
    rows: list[bytes] = field(default_factory=list)

    def note(self, step: str, what: str, **facts: JsonValue) -> None:
        """Note what happens now."""
        self.add(self._event(step, what, facts))

    def add(self, event: StoryEvent) -> None:
        """Put an event that has a time of its own."""
        self.rows.append(_row(event))
        if len(self.rows) > MOST_EVENTS:
            del self.rows[FIRST_KEPT]

    def follow(self, earlier: Story) -> None:
        """Go on after another account of the earlier deliveries, if it is the longer one."""
        if earlier.noted > self.noted:
            self.earlier, self.noted = tuple(earlier.told), earlier.noted
            self.rows = [row for row in self.rows if _event_in(from_json(row)) not in self.earlier]

    @property
    def told(self) -> list[StoryEvent]:
        """All of it, in order, without what has only been repeated."""
        return folded([*self.earlier, *(_event_in(from_json(row)) for row in self.rows)])

    def written(self, step: str = "", what: str = "", **facts: JsonValue) -> str:
        """The story as JSON of at most MOST_BYTES; with a last event, where one is named."""
        rows = [*self.rows, _row(self._event(step, what, facts))] if step else [*self.rows]
        noted = self.noted + len(rows)
        if self.earlier:
            rows = [_row(event) for event in Story(self.earlier, rows=rows).told]
        return _joined(rows, noted=noted)

    def _event(self, step: str, what: str, facts: Mapping[str, JsonValue]) -> StoryEvent:
        at_ms = self.began_ms + int((time.monotonic() - self.began) * 1000)
        return StoryEvent(
            at_ms, step, what, {name: clean(fact) for name, fact in facts.items() if fact is not None}
        )


def _joined(rows: list[bytes], *, noted: int) -> str:
    """What does not fit is left out, from the middle."""
    size = sum(len(row) + 1 for row in rows)
    while size > MOST_BYTES and len(rows) > 2:
        size -= len(rows.pop(min(FIRST_KEPT, len(rows) // 2))) + 1
    return f'{{"noted":{noted},"events":[{b",".join(rows).decode()}]}}'


def _row(event: StoryEvent) -> bytes:
    """An event whose facts are too long keeps those that are short."""
    row = to_json([event.at_ms, event.step, event.what, event.facts])
    if len(row) > MOST_EVENT_BYTES:
        short = {name: fact for name, fact in event.facts.items() if len(to_json(fact)) < MOST_TEXT}
        row = to_json([event.at_ms, event.step, event.what, {**short, "facts_left_out": True}])
    return row


def _event_in(row: Any) -> StoryEvent:
    at_ms, step, what, facts = row
    return StoryEvent(int(at_ms), str(step), str(what), dict(facts))


def read(text: str | bytes | None) -> Story:
    """A story that was kept. What cannot be read is none: a story never holds up its job."""
    try:
        kept = from_json(text or b"{}")
        return Story([_event_in(row) for row in kept["events"]], int(kept["noted"]))
    except (ValueError, TypeError, KeyError):
        return Story()


def deliveries(events: Sequence[StoryEvent]) -> list[list[StoryEvent]]:
    """The events of each delivery; what came before the first one is with it."""
    found: list[list[StoryEvent]] = [[]]
    for event in events:
        if event.kind == TAKEN and any(earlier.kind == TAKEN for earlier in found[-1]):
            found.append([])
        found[-1].append(event)
    return found


def folded(events: Sequence[StoryEvent]) -> list[StoryEvent]:
    """The same without what has only been repeated.

    A job that is parked for a day is handed back hundreds of times: of deliveries in a row that went alike and were all
    handed back, the last one stands, with how many there were (`times`) and when the first was.
    """
    kept: list[list[StoryEvent]] = []
    for one in deliveries(events):
        if kept and _alike(kept[-1], one):
            earlier = kept.pop()
            kept.append([*earlier[: _before_taken(earlier)], *_again(_taken(earlier), one)])
        else:
            kept.append(one)
    return [event for one in kept for event in one]


def _alike(one: Sequence[StoryEvent], other: Sequence[StoryEvent]) -> bool:
    kinds = [event.kind for event in one[_before_taken(one) :]]
    return kinds[-1:] == [HANDED_BACK] and kinds == [event.kind for event in other]


def _before_taken(events: Sequence[StoryEvent]) -> int:
    return next((at for at, event in enumerate(events) if event.kind == TAKEN), 0)


def _taken(events: Sequence[StoryEvent]) -> StoryEvent:
    return events[_before_taken(events)]


def _again(first: StoryEvent, events: Sequence[StoryEvent]) -> list[StoryEvent]:
    times = first.facts.get("times", 1)
    since: JsonValue = first.facts.get("first_ms", first.at_ms)
    counted = {"times": (times if isinstance(times, int) else 1) + 1, "first_ms": since}
    return [
        StoryEvent(event.at_ms, event.step, event.what, {**event.facts, **counted})
        if event.kind == TAKEN
        else event
        for event in events
    ]


def clean(fact: JsonValue) -> JsonValue:
    """A fact that is short and printable, whatever name it holds."""
    if isinstance(fact, str):
        return fact if len(fact) <= MOST_TEXT and fact.isprintable() else _printable(fact[:MOST_TEXT])
    if isinstance(fact, list):
        more: list[JsonValue] = [{"more": len(fact) - MOST_ITEMS}] if len(fact) > MOST_ITEMS else []
        return [clean(one) for one in fact[:MOST_ITEMS]] + more
    if isinstance(fact, dict):
        return {str(clean(name)): clean(one) for name, one in fact.items() if one is not None}
    return fact


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
