"""The interleavings that broke earlier drafts, by their number: the lanes' side of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
import redis.asyncio

from producer_sdk.lanes import Lanes, Limits, TenantLimits
from tests.producer_sdk.lanes.hall import LEASE_MS, START_MS, TTL_S, Hall, ended, job
from tests.servers import Valkey

T = TypeVar("T")
HOUR_MS = 3_600_000


class RepliesLost:
    """Every script runs, its reply is lost, and the client library sends it again."""

    async def cross(self, _name: str, do: Callable[[], Awaitable[T]]) -> T:
        """Twice, as redis-py would."""
        await do()
        return await do()

    def cross_blocking(self, _name: str, do: Callable[[], T]) -> T:
        """The same for code that blocks."""
        do()
        return do()


@pytest.fixture
async def own_client(own_valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of a server that the test may kill or flush."""
    client = redis.asyncio.Redis.from_url(own_valkey.redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def own_hall(own_client: redis.asyncio.Redis, namespace: str) -> Hall:
    """A hall on that server."""
    return await Hall(own_client, namespace).open()


async def test_interleaving_01_jobs_of_a_take_whose_reply_was_lost_run_again_within_a_lease(
    hall: Hall,
) -> None:
    await hall.put(job("a"), job("b"))
    await hall.take(2, op_id="lost")
    await hall.live_on(LEASE_MS, tags=["other:tag"])
    assert (await hall.sweep())[0] == 2
    assert await hall.names(2) == ["a", "b"]


async def test_interleaving_01_a_take_repeated_at_once_gives_the_same_tags(hall: Hall) -> None:
    await hall.put(*(job(f"j{number}") for number in range(5)))
    first = await hall.take(3, op_id="same")
    await hall.finish(first[0])
    assert await hall.take(3, op_id="same") == first[1:]
    assert (await hall.lanes.counts()).running == 2


async def test_interleaving_02_a_repeated_take_after_the_lease_gives_none_that_were_redelivered(
    hall: Hall,
) -> None:
    await hall.put(job("a"), job("b"), job("c"))
    await hall.take(2, op_id="late")
    await hall.lose()
    [second] = await hall.take(1)
    assert second.job_id == "a"
    assert await hall.take(2, op_id="late") == []
    assert await hall.finish(second) == [True]


async def test_interleaving_03_every_script_that_is_repeated_counts_once(
    client: redis.asyncio.Redis, namespace: str
) -> None:
    hall = await Hall(client, namespace).open()
    hall.lanes = Lanes(client, namespace=namespace, clock="override", crossing=RepliesLost())
    await hall.cap(10)
    assert await hall.put(job("a"), job("b"), job("c"), job("d")) == ["accepted"] * 4
    a, b, c = await hall.take(3)
    assert (await hall.lanes.depths())[1].virtual_time == 300
    assert (await hall.finish(a), await hall.lanes.hand_back(b.tag)) == ([True], True)
    assert (await hall.lanes.depths())[1].virtual_time == 200
    assert await hall.lanes.move(c.tag, job("c")) is True
    counts = await hall.lanes.counts()
    assert (counts.pending, counts.running) == (3, 0)
    assert await hall.lanes.cancel("d") == "pending"
    assert await hall.names(2) == ["d", "b"]
    assert await hall.lose() == (0, 0, False)
    assert {held.job_id: held.deliveries for held in await hall.take(3)} == {"d": 2, "b": 2, "c": 1}


async def test_interleaving_06_after_the_broker_was_away_no_live_workers_job_is_swept(
    own_valkey: Valkey, own_client: redis.asyncio.Redis
) -> None:
    lanes = Lanes(own_client)
    await lanes.put([job("w1"), job("w2")], ttl_s=TTL_S)
    await lanes.set_limits(Limits(TenantLimits(concurrency=2), {}))
    first, second = (await lanes.take(2, worker="w", lease_ms=LEASE_MS, op_id="op")).deliveries
    await lanes.beat([first.tag, second.tag], lease_ms=LEASE_MS)
    await own_client.hset(lanes.keys.root + "state", "hold", 0)  # the first lease has passed
    own_valkey.kill()
    own_valkey.start()
    await own_client.connection_pool.disconnect()
    await own_client.zadd(lanes.keys.root + "unacked", {"w1": 1, "w2": 1})  # the leases ended meanwhile
    assert (await lanes.beat([first.tag], lease_ms=LEASE_MS)).lost == frozenset()
    swept = await lanes.sweep(lease_ms=LEASE_MS, delivery_cap=5)
    assert (swept.held_off, swept.returned) == (True, 0)
    assert (await lanes.beat([second.tag], lease_ms=LEASE_MS)).lost == frozenset()


async def test_interleaving_06_after_a_gap_in_the_clock_nothing_is_swept_for_one_lease(hall: Hall) -> None:
    await hall.put(job("w1"), job("w2"))
    first, second = await hall.take(2)
    await hall.at(hall.now_ms + 90_000)
    assert (await hall.lanes.beat([first.tag], lease_ms=LEASE_MS)).lost == frozenset()
    assert await hall.sweep() == (0, 0, True)
    await hall.at(hall.now_ms + LEASE_MS // 3)
    assert (await hall.lanes.beat([second.tag], lease_ms=LEASE_MS)).lost == frozenset()
    await hall.live_on(LEASE_MS - LEASE_MS // 3, [first.tag])
    assert await hall.sweep() == (0, 0, False)
    await hall.live_on(LEASE_MS // 3, [first.tag])
    assert await hall.sweep() == (1, 0, False)
    assert await hall.names() == ["w2"]


async def test_interleaving_06_a_new_run_of_the_server_holds_the_sweep_off_too(hall: Hall) -> None:
    await hall.put(job("a"))
    await hall.take()
    await hall.live_on(2 * LEASE_MS)
    await hall.client.set(hall.lanes.keys.run, "run-2")
    assert await hall.sweep() == (0, 0, True)
    await hall.live_on(LEASE_MS - 1)
    assert await hall.sweep() == (0, 0, True)
    await hall.live_on(1)
    assert await hall.sweep() == (1, 0, False)


async def test_interleaving_07_a_flushed_servers_worker_is_told_and_puts_its_job_back(own_hall: Hall) -> None:
    await own_hall.put(job("a"))
    [held] = await own_hall.take()
    await own_hall.client.flushall()
    await own_hall.client.set(own_hall.lanes.keys.clock, own_hall.now_ms)
    assert (await own_hall.lanes.beat([held.tag], lease_ms=LEASE_MS)).lost == {held.tag}
    assert await own_hall.put(job("a")) == ["accepted"]
    assert await own_hall.names() == ["a"]


async def test_interleaving_07_a_job_that_was_only_rolled_back_is_not_doubled(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    await hall.lose()
    assert (await hall.lanes.beat([held.tag], lease_ms=LEASE_MS)).lost == {held.tag}
    assert await hall.put(job("a")) == ["duplicate"]
    assert await hall.names(2) == ["a"]


async def test_interleaving_08_a_retry_is_one_move_so_there_is_never_no_job_and_never_two(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    await hall.lanes.move(held.tag, job("a", body="retry"))
    await hall.lanes.move(held.tag, job("a", body="retry"))
    assert await hall.finish(held) == [False]
    await hall.lose()
    assert [(one.job_id, one.message) for one in await hall.take(3)] == [("a", b"a\nretry")]


async def test_interleaving_23_a_worker_with_1000_jobs_dies_and_each_counts_one_delivery(hall: Hall) -> None:
    await hall.cap(1000)
    await hall.put(*(job(f"j{number}") for number in range(1000)))
    for _ in range(4):
        await hall.take(250)
    await hall.live_on(LEASE_MS)
    assert [await hall.sweep() for _ in range(10)] == [(100, 0, False)] * 10
    again = [held for _ in range(4) for held in await hall.take(250)]
    assert [held.deliveries for held in again] == [2] * 1000
    assert [held.job_id for held in again] == [f"j{number}" for number in range(1000)]


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
async def test_interleaving_25_when_the_clock_jumps_an_hour_no_live_job_is_lost(
    hall: Hall, jump_ms: int
) -> None:
    await hall.put(job("live"), job("dead"), job("pending", deadline_ms=START_MS + HOUR_MS))
    live, _dead = await hall.take(2)
    await hall.at(hall.now_ms + jump_ms)
    assert await hall.sweep() == (0, 0, True)
    assert await hall.live_on(LEASE_MS - LEASE_MS // 3, [live.tag]) == frozenset()
    assert await hall.sweep() == (0, 0, True)
    assert await hall.live_on(LEASE_MS // 3, [live.tag]) == frozenset()
    returned, dead, held_off = await hall.sweep()
    assert (returned, dead, held_off) == (1, 0, False)
    assert await hall.finish(live) == [True]
    assert "dead" in await hall.names(2)


async def test_interleaving_25_a_job_is_not_expired_by_a_clock_that_has_just_jumped(hall: Hall) -> None:
    await hall.put(job("a", deadline_ms=hall.now_ms + HOUR_MS // 2))
    await hall.at(hall.now_ms + HOUR_MS)
    assert [held.stop for held in await hall.take()] == [None]


async def test_interleaving_26_a_pending_job_that_is_cancelled_is_handed_out_to_be_ended(hall: Hall) -> None:
    await hall.put(job("a"))
    assert await hall.lanes.cancel("a") == "pending"
    [held] = await hall.take()
    assert (held.job_id, held.stop, held.message) == ("a", "cancelled", job("a").message)
    assert await hall.lanes.finish([ended(held, b"cancelled")]) == [True]
    assert (await hall.state("a"), await hall.result("a")) == ("finished", b"cancelled")


async def test_interleaving_26_a_pending_job_that_expires_is_handed_out_to_be_ended(hall: Hall) -> None:
    await hall.put(job("a", deadline_ms=hall.now_ms + 10))
    await hall.live_on(10)
    await hall.sweep()
    [held] = await hall.take()
    assert (held.job_id, held.stop) == ("a", "expired")


async def test_interleaving_27_a_job_that_waits_for_a_provider_leaves_its_slot_to_others(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(job("waits", "a"), job("other", "a"), job("b", "b"))
    held = {one.job_id: one for one in await hall.take(2)}
    await hall.lanes.hand_back(held["waits"].tag, delay_ms=5000)
    assert await hall.names(2) == ["other"]
    await hall.at(hall.now_ms + 5000)
    await hall.cap(2)
    assert [(one.job_id, one.deliveries) for one in await hall.take(2)] == [("waits", 1)]


async def test_a_server_that_is_killed_and_started_again_has_kept_everything(
    own_valkey: Valkey, own_hall: Hall
) -> None:
    hall, lanes = own_hall, own_hall.lanes
    await hall.put(job("a"), job("b"), job("c"), job("d", due_ms=hall.now_ms + 1000), job("e", "zenith"))
    a, b = await hall.take(2)
    await hall.finish(a, result=b"kept")
    await lanes.cancel("c")
    before = (await lanes.depths(), await lanes.counts(), await lanes.states(list("abcde")))
    own_valkey.kill()
    own_valkey.start()
    await hall.client.connection_pool.disconnect()
    assert (await lanes.depths(), await lanes.counts(), await lanes.states(list("abcde"))) == before
    assert await hall.result(a.job_id) == b"kept"
    assert await hall.finish(a, b) == [True, True]
    await hall.at(hall.now_ms + 1000)
    assert sorted(await hall.names(9)) == sorted({"a", "b", "c", "d", "e"} - {a.job_id, b.job_id})


async def test_a_server_without_memory_refuses_a_script_as_a_whole(own_hall: Hall) -> None:
    await own_hall.put(job("held"), job("pending"), job("delayed", due_ms=own_hall.now_ms + 1000))
    [held] = await own_hall.take()
    before = await own_hall.lanes.states(["held", "pending", "delayed"])
    await own_hall.client.config_set("maxmemory", 1)
    lanes = own_hall.lanes
    for call in (
        lambda: own_hall.put(job("new")),
        own_hall.take,
        lambda: own_hall.finish(held),
        lambda: own_hall.finish(held, result=None),
        lambda: lanes.hand_back(held.tag),
        lambda: lanes.move(held.tag, job("held")),
        lambda: lanes.cancel("pending"),
        lambda: lanes.cancel("delayed"),
        own_hall.sweep,
        lambda: own_hall.cap(1),
    ):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            await call()
    await own_hall.client.config_set("maxmemory", 0)
    assert await lanes.states(["held", "pending", "delayed"]) == before
    assert await own_hall.finish(held) == [True]
    assert await own_hall.names(5) == ["pending"]
