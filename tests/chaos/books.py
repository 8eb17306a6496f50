"""Compares what a fleet was asked, what it answered, what its ledger says and what the twin has billed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AttemptRow:
    """One row of the journal."""

    state: str
    amount_pico: int
    windows: tuple[str, ...]
    began_after_the_end: bool = False  # of its job


@dataclass(frozen=True)
class EventRow:
    """One row of the ledger."""

    id: str
    job_id: str
    status: str
    cache: str
    cost_pico: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Evidence:
    """Everything that is left when a fleet has come to rest."""

    accepted: frozenset[str]
    results: Mapping[str, Mapping[str, Any]]  # as Celery's result backend keeps them
    finals: Mapping[str, Mapping[str, Any]]  # as the ledger keeps them
    attempts: Mapping[str, AttemptRow]
    events: tuple[EventRow, ...]
    calls: tuple[Mapping[str, Any], ...]  # the twin's books
    windows: Mapping[str, tuple[int, int]]  # settled and held in Redis
    holds: int
    unmirrored: int
    lanes: Mapping[str, int]  # how many jobs are where
    given_up: int = 0  # jobs that were lost with their workers too often
    in_flight_at_kills: int = 0
    in_flight_at_pauses: int = 0  # a paused worker may end its job just when another one has begun it anew
    broken_by_tests: int = 0  # calls whose reply a test has lost: the worker cannot know what they cost
    by_id: Mapping[str, EventRow] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {event.id: event for event in self.events})

    @property
    def billed(self) -> dict[str, Mapping[str, Any]]:
        """The calls that the twin bills, by attempt."""
        return {str(call["attempt"]): call for call in self.calls if call["billed"]}

    @property
    def uncertain(self) -> list[EventRow]:
        return [event for event in self.events if event.status == "uncertain"]

    @property
    def succeeded(self) -> int:
        return sum(final["status"] == "succeeded" for final in self.finals.values())

    @property
    def lost(self) -> list[str]:
        """Accepted jobs without a final state, or without a result."""
        return sorted(self.accepted - set(self.finals) | self.accepted - set(self.results))

    def certain_cost_pico(self) -> tuple[int, int]:
        """What certain ledger rows sum to, and what the twin bills for the same attempts."""
        apart = {event.id for event in self.uncertain}
        ledger = sum(event.cost_pico for event in self.events if event.id not in apart)
        return ledger, sum(call["cost_pico"] for attempt, call in self.billed.items() if attempt not in apart)


def violations(evidence: Evidence) -> list[str]:
    """One sentence for each broken promise; none when the books agree."""
    return [
        *_of_jobs(evidence),
        *_of_calls(evidence),
        *_of_ledger_rows(evidence),
        *_of_attempts(evidence),
        *_of_money_in_redis(evidence),
        *_of_lanes(evidence),
    ]


def _of_jobs(evidence: Evidence) -> Iterator[str]:
    for job_id in evidence.lost:
        yield f"job {job_id} is lost: it has no final state, or no result"
    for job_id in set(evidence.finals) - evidence.accepted:
        yield f"job {job_id} was never accepted, but has a final state"
    for job_id, meta in evidence.results.items():
        told, final = meta["result"], evidence.finals.get(job_id)
        if final is not None and _essence(told) != _essence(final):
            yield f"job {job_id}: its result {_essence(told)} is not its final state {_essence(final)}"


def _essence(result: Mapping[str, Any]) -> tuple[Any, ...]:
    error = result.get("error") or {}
    return result["status"], result.get("text"), error.get("code"), result.get("cost_usd")


def _of_calls(evidence: Evidence) -> Iterator[str]:
    sent = Counter(str(call["attempt"]) for call in evidence.calls)
    for attempt, count in sent.items():
        if count > 1:
            yield f"attempt {attempt} was sent {count} times under one id"
    rows = Counter(event.id for event in evidence.events)
    for attempt, call in evidence.billed.items():
        if rows[attempt] != 1:
            yield f"attempt {attempt} is billed, and has {rows[attempt]} ledger rows"
            continue
        event = evidence.by_id[attempt]
        billed = (call["input_tokens"], call["output_tokens"], call["cost_pico"])
        booked = (event.input_tokens, event.output_tokens, event.cost_pico)
        if event.status == "uncertain":
            if event.cost_pico < call["cost_pico"]:
                yield f"attempt {attempt} is uncertain at {event.cost_pico}, under the bill of {call['cost_pico']}"
        elif billed != booked:
            yield f"attempt {attempt} is billed as {billed} and booked as {booked} ({event.status})"


def _of_ledger_rows(evidence: Evidence) -> Iterator[str]:
    for event in evidence.events:
        attempt = evidence.attempts.get(event.id)
        if event.cache in ("exact", "semantic", "coalesced"):
            if event.cost_pico:
                yield f"cache hit {event.id} costs {event.cost_pico}"
        elif attempt is None:
            yield f"ledger row {event.id} has no attempt"
        elif attempt.amount_pico != event.cost_pico:
            yield f"attempt {event.id} stands at {attempt.amount_pico} in the journal, {event.cost_pico} in the ledger"
        if event.cost_pico and event.status != "uncertain" and event.id not in evidence.billed:
            yield f"ledger row {event.id} costs {event.cost_pico}, but the twin has billed nothing"


def _of_attempts(evidence: Evidence) -> Iterator[str]:
    for attempt_id, row in evidence.attempts.items():
        if row.state == "in_flight":
            yield f"attempt {attempt_id} is still in flight"
        elif row.state != "void" and attempt_id not in evidence.by_id:
            yield f"attempt {attempt_id} is {row.state} and has no ledger row"
    called = [(attempt_id, row) for attempt_id, row in evidence.attempts.items() if row.state != "void"]
    late = [attempt_id for attempt_id, row in called if row.began_after_the_end]
    if len(late) > evidence.in_flight_at_pauses:
        yield f"attempts {', '.join(late)} began after their jobs had ended"
    unknown = len(evidence.uncertain)
    allowed = evidence.in_flight_at_kills + evidence.in_flight_at_pauses + evidence.broken_by_tests
    if unknown > allowed:
        yield f"{unknown} uncertain rows, but only {allowed} calls were cut"


def _of_money_in_redis(evidence: Evidence) -> Iterator[str]:
    if evidence.holds:
        yield f"{evidence.holds} holds are left in Redis"
    if evidence.unmirrored:
        yield f"{evidence.unmirrored} settled attempts are not confirmed in Redis"
    spent: Counter[str] = Counter()
    for row in evidence.attempts.values():
        for window in row.windows:
            spent[window] += 0 if row.state == "void" else row.amount_pico
    for window, amount in spent.items():
        settled, held = evidence.windows.get(window, (0, 0))
        if (settled, held) != (amount, 0):
            yield f"window {window} holds {settled} settled and {held} held, SQL says {amount} and 0"


def _of_lanes(evidence: Evidence) -> Iterator[str]:
    for where, count in evidence.lanes.items():
        if count:
            yield f"{count} jobs are still {where}"
