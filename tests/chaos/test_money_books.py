"""The judge of money: it finds nothing in sound evidence, and each broken promise in broken evidence."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from producer_sdk.contract import to_pico
from tests.chaos import test_books
from tests.chaos.money_books import (
    KINDS,
    Audit,
    Doctor,
    Flush,
    MoneyEvidence,
    full_windows,
    kind,
    limit_pico,
    overspent,
    violations,
)
from tests.chaos.money_jobs import ROUTING
from tests.chaos.money_report import BOTH, BROKER, FLUSHED, WORKER, Plan, Report
from tests.chaos.redis_books import Held, RedisBooks
from worker.routing_load import load

TODAY = "t:ants:d:2026-11-23"
HELD = {"a9": Held(30, (TODAY,))}
AUDIT = Audit(
    rest_s=3.0,
    redis=RedisBooks(4, {}, {TODAY: (70, 0)}, frozenset()),
    in_flight={},
    settled={TODAY: 70},
    limits={TODAY: 80},
    doctor=Doctor(0, ("ok",)),
)
FLUSH = Flush(
    in_hand=frozenset({"j2"}),
    finished=frozenset({"j1"}),
    called=frozenset({"a1"}),
    gone=frozenset({"j3"}),
    known=frozenset(),
    repeated=3,
)
SOUND = MoneyEvidence(
    books=test_books.SOUND,
    audits=(AUDIT,),
    overspent=(),
    samples=9,
    least_room_pico=10,
    full=frozenset(KINDS),
    over_reserved=0,
    uncertain={"a6": "j5", "a7": "j2", "a8": "j4"},
    in_flight_at_kills=frozenset({"a8"}),
    cancelled_mid_call=frozenset({"j5"}),
    attempts={"a1": "j1", "a6": "j5", "a7": "j2", "a8": "j4"},
    flushes=(FLUSH,),
)


def after_the_rest(**changes: Any) -> dict[str, Any]:
    return {"audits": (AUDIT, replace(AUDIT, **changes))}


def redis(**changes: Any) -> dict[str, Any]:
    return after_the_rest(redis=replace(AUDIT.redis, **changes))


BROKEN: dict[str, dict[str, Any]] = {
    "j1 is lost": {"books": replace(test_books.SOUND, finals={})},
    "past its limit in a sample": {"overspent": ("past its limit in a sample",)},
    "and a limit of 69": after_the_rest(limits={TODAY: 69}),
    "and a limit of None": after_the_rest(limits={}),
    "only after 91 s": after_the_rest(rest_s=91.0),
    "Redis has no books": redis(epoch=None),
    "a9 holds Held(amount_pico=30, windows=('t:ants:d:2026-11-23',)) in Redis, None in SQL": redis(held=HELD),
    "a9 holds None in Redis": after_the_rest(in_flight=HELD),
    "a9 is still held, and in flight": after_the_rest(
        redis=replace(AUDIT.redis, held=HELD, windows={TODAY: (70, 30)}, listed=frozenset(HELD)),
        in_flight=HELD,
    ),
    "1 holds are listed, and 0 are there": redis(listed=frozenset({"a9"})),
    "says that 1 is held, its attempts hold 0": redis(windows={TODAY: (70, 1)}),
    "has 71 settled in Redis, 70 in SQL": redis(windows={TODAY: (71, 0)}),
    "has 0 settled in Redis, 70 in SQL": redis(windows={}),
    "has 5 settled in Redis, 0 in SQL": redis(windows={TODAY: (70, 0), "r:ants:run": (5, 0)}),
    "the doctor has ended with 1: bad": after_the_rest(doctor=Doctor(1, ("bad",))),
    "the doctor has ended with 0: note": after_the_rest(doctor=Doctor(0, ("note",))),
    "a8 is uncertain, though nothing has cut it": {"in_flight_at_kills": frozenset()},
    "a7 is uncertain, though": {"flushes": (replace(FLUSH, in_hand=frozenset({"j9"})),)},
    "a6 is uncertain, though": {"cancelled_mid_call": frozenset()},
    "the flush met 0 jobs that only waited": {"flushes": (replace(FLUSH, gone=frozenset()),)},
    "and 0 in workers' hands": {"flushes": (replace(FLUSH, in_hand=frozenset()),)},
    "2 attempts cost more than they had reserved": {"over_reserved": 2},
    "j1 had ended before the flush, and was called again: attempt a3": {
        "attempts": {**SOUND.attempts, "a3": "j1"}
    },
    "j3 only waited, and is not unknown": {"flushes": (replace(FLUSH, known=frozenset({"j3"})),)},
    "of the runs none was ever spent": {"full": frozenset(KINDS) - {"runs"}},
}


def test_sound_evidence_is_found_sound() -> None:
    assert violations(SOUND) == []


@pytest.mark.parametrize("sentence", BROKEN)
def test_every_broken_promise_is_found(sentence: str) -> None:
    found = violations(replace(SOUND, **BROKEN[sentence]))
    assert any(sentence in each for each in found), found


def test_a_window_may_be_spent_to_its_limit_and_no_further() -> None:
    assert list(overspent({TODAY: 80}, {TODAY: 80})) == []
    assert len(list(overspent({TODAY: 81}, {TODAY: 80}))) == 1
    assert len(list(overspent({TODAY: 1}, {TODAY: None}))) == 1


@pytest.mark.parametrize(
    ("window", "usd", "words"),
    [
        ("fleet:d:2026-11-24", "0.0034", "fleet's days"),
        ("p:local_messages:d:2026-11-24", "0.00025", "providers' days"),
        ("t:ants-1:d:2026-11-24", "0.0015", "tenants' days"),
        ("t:ants-1:m:2026-11", "0.00157", "tenants' months"),
        ("f:ants-1:digest:d:2026-11-24", "0.0005", "features' days"),
        ("r:ants-1:run%20of%20ants-1", "0.0004", "runs"),
    ],
)
def test_the_limit_of_each_kind_of_window_is_routing_yamls_and_what_was_added(
    window: str, usd: str, words: str
) -> None:
    routing = load(ROUTING)
    assert limit_pico(window, routing, {}) == to_pico(usd)
    assert limit_pico(window, routing, {window: 7, "fleet:d:2026-01-01": 9}) == to_pico(usd) + 7
    assert kind(window) == words


def test_a_window_that_nothing_limits_has_no_limit() -> None:
    routing = load(ROUTING)
    for window in ("fleet:m:2026-11", "p:local:d:2026-11-24", "f:ants:digest:m:2026-11", "x:1"):
        assert limit_pico(window, routing, {}) is None


def test_windows_count_as_spent_from_four_fifths_on() -> None:
    limits = {TODAY: 100, "t:bees:d:2026-11-23": 100, "r:ants:run": None}
    spent = {TODAY: 80, "t:bees:d:2026-11-23": 79, "r:ants:run": 1000}
    assert full_windows(spent, limits) == {"tenants' days": 1}


REFUSED = {"status": "rejected", "error": {"code": "budget_exceeded", "reason": "window_spent"}}
REPORT = Report(
    plan=Plan(seed=1, worker_kills=3, broker_kills=1),
    evidence=replace(
        SOUND,
        books=replace(
            test_books.SOUND,
            accepted=frozenset({"j1", "j2"}),
            results={"j1": {"result": test_books.RESULT}, "j2": {"result": REFUSED}},
            finals={"j1": test_books.RESULT, "j2": REFUSED},
        ),
    ),
    struck=Counter({WORKER: 1, BOTH: 1, FLUSHED: 1}),
    killed_mid_call=3,
    killed=4,
    generations=1,
    duration_s=60.0,
    exit_codes=(0, 0),
)
WEAK: dict[str, dict[str, Any]] = {
    "only 2 workers were killed in the middle of a call": {"killed_mid_call": 2},
    "all jobs were refused, or none": {"evidence": SOUND},
    "looked at only 9 times": {"duration_s": 91.0},
    "the workers ended with (0, 1)": {"exit_codes": (0, 1)},
    "0 brokers were killed": {"struck": Counter({WORKER: 2, FLUSHED: 1})},
    "0 brokers were flushed": {"struck": Counter({WORKER: 2, BOTH: 1})},
}


def test_a_run_that_did_all_it_was_asked_for_is_believed() -> None:
    assert REPORT.violations == []
    rows = dict(REPORT.rows())
    assert rows["rests with Redis by SCAN = SQL, and `doctor books` clean"] == "1 of 1"


@pytest.mark.parametrize("sentence", WEAK)
def test_a_run_that_did_less_than_it_was_asked_for_is_not_believed(sentence: str) -> None:
    found = replace(REPORT, **WEAK[sentence]).violations
    assert any(sentence in each for each in found), found


def test_strikes_are_as_many_as_planned_and_the_flush_comes_in_the_middle() -> None:
    plan = Plan(seed=1)
    strikes = plan.strikes(random.Random(plan.seed))
    count = Counter(strikes)
    assert count[WORKER] + count[BOTH] + count[FLUSHED] == plan.worker_kills
    assert count[BROKER] + count[BOTH] == plan.broker_kills
    assert len(strikes) / 3 < strikes.index(FLUSHED) < len(strikes) * 2 / 3
