"""How a worker lets go of a job: finish, hand back, move; and how a producer ends one: cancel."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import redis
from redis.asyncio.client import PubSub

from producer_sdk.lanes import LanesBlocking, TenantLimits
from tests.producer_sdk.lanes.hall import LEASE_MS, TTL_S, Hall, ended, job


async def heard(pubsub: PubSub, count: int) -> list[tuple[bytes, bytes]]:
    """The next messages: channel and payload."""
    found: list[tuple[bytes, bytes]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message:
                found.append((message["channel"], message["data"]))
    return found


async def test_finish_writes_the_result_tells_who_waits_and_frees_the_slot(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(job("a"), job("b"))
    [held] = await hall.take(2)
    keys = hall.lanes.keys
    async with hall.client.pubsub() as pubsub:
        await pubsub.subscribe(keys.result("a"), keys.replies("me"), keys.wake)
        assert await hall.lanes.finish([ended(held, b"answer", reply_to="me")]) == [True]
        said = await heard(pubsub, 3)
    assert said == [
        (keys.result("a").encode(), b"answer"),
        (keys.replies("me").encode(), b"a"),
        (keys.wake.encode(), b"wake"),
    ]
    assert await hall.result("a") == b"answer"
    assert 0 < await hall.client.ttl(keys.result("a")) <= TTL_S
    assert await hall.state("a") == "finished"
    assert await hall.client.exists(keys.root + "message:a") == 0
    assert await hall.names() == ["b"]


async def test_a_delivery_finished_without_a_result_writes_none(hall: Hall) -> None:
    await hall.put(job("a"))
    assert await hall.finish(*await hall.take(), result=None) == [True]
    assert (await hall.result("a"), await hall.state("a")) == (None, "finished")


async def test_an_empty_result_is_a_result(hall: Hall) -> None:
    await hall.put(job("a"))
    await hall.finish(*await hall.take(), result=b"")
    assert await hall.result("a") == b""


async def test_a_batch_of_ends_is_answered_one_by_one(hall: Hall) -> None:
    await hall.put(*(job(f"j{number}") for number in range(90)))
    held = await hall.take(90)
    strange = replace(held[0], tag="j0:strange")
    answers = await hall.finish(*held[:70], strange, replace(held[0], tag="unknown"), *held[70:])
    assert answers == [True] * 70 + [False, False] + [True] * 20
    assert (await hall.lanes.counts()).running == 0


async def test_a_job_handed_back_comes_first_again_uncounted_and_uncharged(hall: Hall) -> None:
    await hall.put(job("a", cost=5000), job("b"), job("z1", "zenith"), job("z2", "zenith"))
    [held] = await hall.take()
    assert await hall.lanes.hand_back(held.tag) is True
    [again] = await hall.take()
    assert (again.job_id, again.deliveries) == ("a", 1)
    assert await hall.lanes.hand_back(again.tag)
    assert (await hall.names(4))[0] == "a"
    assert await hall.lanes.hand_back(held.tag) is False


async def test_a_job_handed_back_with_a_delay_waits_without_a_slot(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(job("a"), job("b"))
    [held] = await hall.take(2)
    await hall.lanes.hand_back(held.tag, delay_ms=5000)
    [other] = await hall.take(2)
    assert other.job_id == "b"
    await hall.finish(other)
    await hall.at(hall.now_ms + 5000)
    assert await hall.names() == ["a"]


async def test_a_moved_job_goes_to_the_end_with_its_new_message(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(job("a"), job("b"))
    [held] = await hall.take()
    assert await hall.lanes.move(held.tag, job("a", body="second try")) is True
    assert await hall.lanes.move(held.tag, job("a", body="second try")) is True
    [b] = await hall.take()
    await hall.finish(b)
    [a] = await hall.take()
    assert (b.job_id, a.job_id, a.message, a.deliveries) == ("b", "a", b"a\nsecond try", 1)
    assert await hall.put(job("a")) == ["duplicate"]


async def test_a_moved_job_may_be_delayed(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    await hall.lanes.move(held.tag, job("a", due_ms=hall.now_ms + 100))
    assert (await hall.names(), await hall.state("a")) == ([], "delayed")
    await hall.at(hall.now_ms + 100)
    assert await hall.names() == ["a"]


async def test_only_the_job_of_a_tag_can_be_moved_with_it(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    with pytest.raises(ValueError, match="cannot go back as job b"):
        await hall.lanes.move(held.tag, job("b"))


async def test_the_blocking_client_moves_too(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    path = hall.client.connection_pool.connection_kwargs["path"]

    def move() -> bool:
        with redis.Redis(unix_socket_path=path) as connection:
            lanes = LanesBlocking(connection, namespace=hall.lanes.keys.namespace, clock="override")
            return lanes.move(held.tag, job("a", body="again"))

    assert await asyncio.to_thread(move)
    assert [delivery.message for delivery in await hall.take()] == [b"a\nagain"]


async def test_a_delayed_job_that_is_cancelled_is_only_ended(hall: Hall) -> None:
    await hall.put(job("a", due_ms=hall.now_ms + 1000))
    assert await hall.lanes.cancel("a") == "pending"
    assert await hall.lanes.cancel("a") == "pending"
    assert (await hall.lanes.counts()).delayed == 0
    [held] = await hall.take()
    assert held.stop == "cancelled"
    await hall.finish(held)
    assert await hall.lanes.cancel("a") == "finished"
    await hall.at(hall.now_ms + 2000)
    assert await hall.names() == []


async def test_a_running_job_that_is_cancelled_is_told_by_message_and_by_beat(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    async with hall.client.pubsub() as pubsub:
        await pubsub.subscribe(hall.lanes.keys.wake)
        assert await hall.lanes.cancel("a") == "running"
        assert await heard(pubsub, 1) == [(hall.lanes.keys.wake.encode(), b"cancel:a")]
    beat = await hall.lanes.beat([held.tag], lease_ms=LEASE_MS)
    assert (beat.lost, beat.cancelled) == (frozenset(), {held.tag})
    assert await hall.finish(held) == [True]


async def test_a_cancelled_job_whose_worker_dies_or_gives_it_back_is_not_called_again(hall: Hall) -> None:
    await hall.put(job("a"), job("b"), job("c"))
    a, b, c = await hall.take(3)
    for held in (a, b, c):
        await hall.lanes.cancel(held.job_id)
    await hall.lanes.hand_back(a.tag, delay_ms=1000)
    await hall.lanes.move(b.tag, job("b"))
    await hall.lose()
    assert {held.job_id: held.stop for held in await hall.take(3)} == dict.fromkeys("abc", "cancelled")


async def test_a_cancelled_job_that_kills_its_worker_ends_as_cancelled(hall: Hall) -> None:
    await hall.put(job("a"))
    await hall.take()
    await hall.lanes.cancel("a")
    await hall.live_on(LEASE_MS)
    assert await hall.sweep(delivery_cap=1) == (1, 0, False)
    assert [held.stop for held in await hall.take()] == ["cancelled"]


@pytest.mark.parametrize("ends", ["cancelled", "expired"])
async def test_a_tenant_whose_last_job_ends_before_it_ran_is_ready_no_more(hall: Hall, ends: str) -> None:
    await hall.put(job("a", deadline_ms=hall.now_ms + 10))
    if ends == "cancelled":
        await hall.lanes.cancel("a")
    else:
        await hall.live_on(10)
        await hall.sweep()
    assert await hall.client.exists(hall.lanes.keys.root + "ready:interactive") == 0


async def test_cancelling_a_job_that_nobody_knows_says_so(hall: Hall) -> None:
    assert await hall.lanes.cancel("never") == "unknown"


async def test_a_waiting_worker_is_woken_when_the_first_job_becomes_ready(hall: Hall) -> None:
    async with hall.client.pubsub() as pubsub:
        await pubsub.subscribe(hall.lanes.keys.wake)
        await hall.put(job("a"))
        assert [data for _channel, data in await heard(pubsub, 1)] == [b"wake"]
        await hall.put(job("b"))
        await hall.take(2)
        await hall.put(job("c"))
        assert [data for _channel, data in await heard(pubsub, 1)] == [b"wake"]


async def test_where_jobs_are_is_told(hall: Hall) -> None:
    await hall.put(job("a"), job("b"), job("c", due_ms=hall.now_ms + 9), job("d", "zenith", lane="batch"))
    await hall.finish((await hall.take())[0])
    await hall.take()
    states = await hall.lanes.states(["a", "b", "c", "d", "e"])
    assert [state.state for state in states] == ["finished", "running", "delayed", "pending", "unknown"]
    assert [state.deliveries for state in states] == [1, 1, 0, 0, 0]
    assert (states[3].tenant, states[3].lane) == ("zenith", "batch")


async def test_live_tags_are_those_that_hold_their_jobs(hall: Hall) -> None:
    await hall.put(job("a"), job("b"))
    a, b = await hall.take(2)
    await hall.finish(a)
    assert await hall.lanes.live([a.tag, b.tag, "never:put", "odd", ""]) == {b.tag}


async def test_jobs_that_were_handed_back_with_a_delay_can_be_hurried_and_no_others(hall: Hall) -> None:
    await hall.put(job("parked"), job("other", "zenith"), job("later", due_ms=hall.now_ms + 9000))
    held = {one.job_id: one for one in await hall.take(2)}
    for one in held.values():
        await hall.lanes.hand_back(one.tag, delay_ms=60_000)
    assert await hall.names(9) == []
    assert await hall.lanes.hurry("acme") == 1
    assert await hall.names(9) == ["parked"]
    assert await hall.lanes.hurry("acme") == 0
    assert (await hall.state("other"), await hall.state("later")) == ("delayed", "delayed")


async def test_more_than_a_scripts_worth_is_hurried_past_others_that_keep_their_time(hall: Hall) -> None:
    await hall.cap(2000)
    await hall.put(*(job(f"later{number}", due_ms=hall.now_ms + 5000) for number in range(1100)))
    await hall.put(*(job(f"p{number}") for number in range(30)))
    for one in await hall.take(30):
        await hall.lanes.hand_back(one.tag, delay_ms=60_000)
    assert await hall.lanes.hurry("acme") == 30
    assert len([name for _ in range(3) for name in await hall.names(30)]) == 30


async def test_a_retry_has_its_charge_and_its_tokens_back(hall: Hall) -> None:
    await hall.limit(TenantLimits(concurrency=9, tokens_per_min=6000, burst_s=60))
    await hall.put(job("a", tokens=100))
    for _ in range(3):
        [held] = await hall.take()
        await hall.lanes.move(held.tag, job("a", tokens=100))
    [held] = await hall.take()
    left = await hall.client.hget(hall.lanes.keys.root + "bucket::acme", "tokens")
    assert float(left) == 6000 - 100
