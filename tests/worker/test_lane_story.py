"""What a delivery is told of its wait."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from producer_sdk.lanes import Delivery, HeldUp, LostDelivery, Past
from tests.worker.job_runs import job_of
from worker.lane_story import begun, held_up
from worker.story import Story, StoryEvent

PUT, TAKEN = 1_800_000_000_000, 1_800_000_010_000


def delivery(**past: Any) -> Delivery:
    told = Past(**{"since_ms": PUT, "ahead": 3, "others": 2} | past)
    deliveries = 1 + len(told.lost)
    return Delivery("j:t", "j", "acme", "interactive", b"", deliveries, PUT, TAKEN, None, told)


def story(of: Delivery, **fields: Any) -> list[StoryEvent]:
    return begun(of, job_of(**fields), retries=0, stop=None, began=0.0).told


def test_a_first_delivery_tells_its_wait_and_who_was_before_it():
    [taken] = story(delivery())
    assert taken.at_ms == TAKEN
    assert dict(taken.facts) == {
        "delivery": 1,
        "lane": "interactive",
        "priority": 5,
        "put_ms": PUT,
        "waited_ms": 10_000,
        "ahead": 3,
        "other_tenants": 2,
    }


def test_what_held_the_tenant_up_counts_within_the_wait_alone():
    spans = [
        HeldUp("requests_per_min", PUT - 5_000, PUT + 1_000),
        HeldUp("concurrency", PUT + 2_000, 0),
        HeldUp("requests_per_min", PUT + 9_000, TAKEN + 60_000),
        HeldUp("tokens_per_min", PUT - 5_000, PUT - 1_000),
    ]
    assert held_up(spans, task="ask", since_ms=PUT, until_ms=TAKEN) == [
        {"by": "requests_per_min", "ms": 2_000},
        {"by": "concurrency", "ms": 8_000},
    ]


def test_another_tasks_limits_hold_up_nothing_else():
    spans = [HeldUp("concurrency of cite", PUT, 0), HeldUp("paused: end of month", PUT, 0)]
    assert held_up(spans, task="ask", since_ms=PUT, until_ms=TAKEN) == [
        {"by": "paused: end of month", "ms": 10_000}
    ]
    assert len(held_up(spans, task="cite", since_ms=PUT, until_ms=TAKEN)) == 2


def test_a_job_that_is_not_due_yet_waits_for_its_time():
    [taken] = story(delivery(), not_before=datetime.fromtimestamp(PUT / 1000 + 4, UTC))
    assert taken.facts["delayed_ms"] == 4_000


def test_a_job_that_was_handed_back_goes_on_from_there():
    earlier = Story()
    earlier.add(StoryEvent(PUT, "lane", "taken", {"delivery": 1}))
    kept = earlier.written("lane", "handed_back", delay_ms=2_000).encode()
    *before, taken = story(delivery(story=kept, since_ms=PUT + 5_000))
    assert [event.what for event in before] == ["taken", "handed_back"]
    assert (taken.facts["waited_ms"], taken.facts["delayed_ms"]) == (5_000, 2_000)
    assert "ahead" not in taken.facts


def test_each_lost_delivery_is_told_once():
    lost = (LostDelivery("w2", PUT + 5, PUT + 6), LostDelivery("w1", PUT + 1, PUT + 2))
    first, second, taken = story(delivery(lost=lost))
    assert [(e.at_ms, e.facts["delivery"], e.facts["worker"]) for e in (first, second)] == [
        (PUT + 2, 1, "w1"),
        (PUT + 6, 2, "w2"),
    ]
    assert taken.facts["delivery"] == 3
    known = Story()
    known.add(first)
    again = story(delivery(lost=lost, story=known.written().encode()))
    assert [event.what for event in again] == ["lost", "lost", "taken"]
