"""The versions of routing.yaml in SQL: one number each, in order, whoever publishes at the same time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from tests.worker.ledger.writing import opened
from worker.ledger.records import RoutingVersion, RoutingWorker

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def numbered(number: int, version: str) -> RoutingVersion:
    return RoutingVersion(number, version, "w1", NOW)


async def test_the_highest_number_is_in_force_and_older_contents_stay(ledger):
    assert await ledger.routing_in_force("f") is None
    assert await ledger.publish_routing("f", numbered(1, "a"), (b"A", b""))
    assert await ledger.publish_routing("f", numbered(2, "b"), (b"B", b"around"))
    assert await ledger.routing_in_force("f") == numbered(2, "b")
    assert await ledger.routing_content("f", "a") == (b"A", b"")
    assert await ledger.routing_content("f", "b") == (b"B", b"around")
    assert await ledger.routing_content("f", "c") is None
    assert [await ledger.knows_routing("f", one) for one in "abc"] == [True, True, False]
    assert await ledger.routing_in_force("another") is None


async def test_a_number_is_given_once_and_asking_again_changes_nothing(ledger):
    assert await ledger.publish_routing("f", numbered(1, "a"), (b"A", b""))
    assert await ledger.publish_routing("f", numbered(1, "a"), (b"A", b""))
    assert not await ledger.publish_routing("f", numbered(1, "b"), (b"B", b""))
    assert await ledger.routing_in_force("f") == numbered(1, "a")


async def test_of_those_that_publish_at_the_same_time_one_gets_the_number(url):
    async with opened(url) as one, opened(url) as other:
        told = await asyncio.gather(
            *(
                ledger.publish_routing("f", numbered(1, version), (version.encode(), b""))
                for ledger, version in ((one, "a"), (other, "b"))
            )
        )
        now = await one.routing_in_force("f")
    assert sorted(told) == [False, True]
    assert now == numbered(1, "a" if told[0] else "b")


async def test_whatever_a_refused_file_held_can_be_written_down(ledger):
    await ledger.routing_seen("f", RoutingWorker("w1", "a", "found '\0 \ud800'", NOW))
    (found,) = await ledger.routing_workers("f", since=NOW)
    assert found.refused == "found '\ufffd ?'"


async def test_workers_are_known_while_they_are_heard_of(ledger):
    first = RoutingWorker("w1", "a", None, NOW)
    for worker in (first, RoutingWorker("w2", "a", "a fault", NOW - timedelta(days=2))):
        await ledger.routing_seen("f", worker)
    await ledger.routing_seen("f", RoutingWorker("w1", "b", None, NOW))
    heard = await ledger.routing_workers("f", since=NOW - timedelta(minutes=1))
    assert heard == [RoutingWorker("w1", "b", None, NOW)]
    await ledger.routing_left("f", "w1", before=NOW - timedelta(days=1))
    assert await ledger.routing_workers("f", since=NOW - timedelta(days=9)) == []
