"""The judge itself: it finds nothing in sound books, and each broken promise in broken ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.books import AttemptRow, EventRow, Evidence, violations

RESULT = {"status": "succeeded", "text": "Yes.", "error": None, "cost_usd": "0.000000000070"}
CALL = {"attempt": "a1", "billed": True, "input_tokens": 3, "output_tokens": 1, "cost_pico": 70}
EVENT = EventRow("a1", "j1", "settled", "none", 70, 3, 1)
SOUND = Evidence(
    accepted=frozenset({"j1"}),
    results={"j1": {"result": RESULT}},
    finals={"j1": RESULT},
    attempts={"a1": AttemptRow("settled", 70, ("t:ants:d:2026-11-23",))},
    events=(EVENT,),
    calls=(CALL,),
    windows={"t:ants:d:2026-11-23": (70, 0)},
    holds=0,
    unmirrored=0,
    lanes={"unacked": 0},
)
BROKEN: dict[str, dict[str, Any]] = {
    "j1 is lost": {"finals": {}},
    "or no result": {"results": {}},
    "never accepted": {"finals": {"j1": RESULT, "j2": RESULT}},
    "is not its final state": {"results": {"j1": {"result": RESULT | {"text": "No."}}}},
    "sent 2 times": {"calls": (CALL, CALL)},
    "has 0 ledger rows": {"events": ()},
    "has 2 ledger rows": {"events": (EVENT, EVENT)},
    "is billed as": {"events": (replace(EVENT, output_tokens=2),)},
    "the twin has billed nothing": {"calls": ()},
    "in the ledger": {"attempts": {"a1": AttemptRow("settled", 71, ())}},
    "has no attempt": {"attempts": {}},
    "still in flight": {"attempts": SOUND.attempts | {"a2": AttemptRow("in_flight", 0, ())}},
    "began after their jobs had ended": {
        "attempts": {"a1": replace(SOUND.attempts["a1"], began_after_the_end=True)}
    },
    "has no ledger row": {"attempts": SOUND.attempts | {"a2": AttemptRow("failed", 0, ())}},
    "only 0 calls were cut": {"events": (replace(EVENT, status="uncertain"),)},
    "under the bill": {
        "events": (replace(EVENT, status="uncertain", cost_pico=69),),
        "in_flight_at_kills": 1,
    },
    "holds are left": {"holds": 2},
    "not confirmed": {"unmirrored": 1},
    "SQL says 70": {"windows": {"t:ants:d:2026-11-23": (70, 1)}},
    "still unacked": {"lanes": {"unacked": 1}},
    "costs 1": {"events": (EVENT, EventRow("h1", "j1", "settled", "exact", 1, 0, 0))},
}


def test_sound_books_are_found_sound() -> None:
    assert violations(SOUND) == []


@pytest.mark.parametrize("sentence", BROKEN)
def test_every_broken_promise_is_found(sentence: str) -> None:
    found = violations(replace(SOUND, **BROKEN[sentence]))
    assert any(sentence in each for each in found), found
