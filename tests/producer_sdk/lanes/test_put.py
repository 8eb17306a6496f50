"""What put accepts, and what it answers to a job that it knows."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio

from producer_sdk.lanes import Lanes, LanesBlocking, PutReply, TenantLimits
from tests.producer_sdk.lanes.hall import TTL_S, Hall, job


async def test_a_job_put_again_is_a_duplicate_while_pending_running_and_finished(hall: Hall) -> None:
    assert await hall.put(job("a")) == ["accepted"]
    assert await hall.put(job("a")) == ["duplicate"]
    [held] = await hall.take()
    assert await hall.put(job("a")) == ["duplicate"]
    await hall.finish(held)
    assert await hall.put(job("a")) == ["duplicate"]
    assert await hall.names() == []


async def test_the_same_id_with_another_body_is_a_conflict(hall: Hall) -> None:
    assert await hall.put(job("a"), job("a", body="other")) == ["accepted", "conflict"]
    [held] = await hall.take()
    await hall.finish(held)
    assert await hall.put(job("a", body="other")) == ["conflict"]


async def test_a_put_whose_reply_was_lost_gets_the_same_answer_again(hall: Hall) -> None:
    entries = [job("a"), job("b"), job("a")]
    first = await hall.lanes.put(entries, ttl_s=TTL_S, op_id="once")
    again = await hall.lanes.put(entries, ttl_s=TTL_S, op_id="once")
    assert [reply.outcome for reply in first] == ["accepted", "accepted", "duplicate"]
    assert [reply.outcome for reply in again] == ["accepted", "accepted", "duplicate"]
    assert (await hall.lanes.counts()).pending == 2


async def test_a_finished_job_is_remembered_for_its_time_and_then_forgotten(hall: Hall) -> None:
    await hall.put(job("a"))
    await hall.finish(*await hall.take())
    record = hall.lanes.keys.root + "job:a"
    assert 0 < await hall.client.ttl(record) <= TTL_S
    await hall.client.delete(record)
    assert await hall.put(job("a")) == ["accepted"]


async def test_a_tenants_queue_is_full_at_its_depth_cap_and_no_one_elses(hall: Hall) -> None:
    entries = [
        job("a"),
        job("b", lane="batch"),
        job("c", due_ms=hall.now_ms + 1000),
        job("d"),
        job("e", "zenith"),
    ]
    await hall.limit(TenantLimits(concurrency=100, max_pending=3))
    replies = await hall.lanes.put(entries, ttl_s=TTL_S)
    assert [reply.outcome for reply in replies] == [
        "accepted",
        "accepted",
        "accepted",
        "queue_full",
        "accepted",
    ]
    assert replies[3] == PutReply("d", "queue_full", 3, 3)
    await hall.take()
    assert await hall.put(job("d")) == ["accepted"]


async def test_more_jobs_than_one_script_takes_are_put_in_order(hall: Hall) -> None:
    names = [f"j{number:03}" for number in range(200)]
    assert set(await hall.put(*(job(name) for name in names))) == {"accepted"}
    await hall.cap(500)
    assert await hall.names(200) == names


async def test_a_lane_that_nobody_takes_from_is_refused(hall: Hall) -> None:
    with pytest.raises(ValueError, match="interactive, batch"):
        await hall.put(job("a", lane="fast"))


async def test_fsync_waits_until_the_job_is_on_the_servers_disk(
    client: redis.asyncio.Redis, namespace: str
) -> None:
    lanes = Lanes(client, namespace=namespace)
    [reply] = await lanes.put([job("a")], ttl_s=TTL_S, fsync_ms=4000)
    assert reply.outcome == "accepted"
    await client.delete(lanes.keys.root + "fsync")
    [again] = await lanes.put([job("a")], ttl_s=TTL_S, fsync_ms=4000)
    assert again.outcome == "duplicate"
    assert await client.exists(lanes.keys.root + "fsync"), (
        "a put that writes nothing has a write to wait for too"
    )


async def test_the_blocking_client_puts_into_the_same_lanes(hall: Hall) -> None:
    def put() -> list[PutReply]:
        pool = hall.client.connection_pool.connection_kwargs
        with redis.Redis(unix_socket_path=pool["path"]) as connection:
            lanes = LanesBlocking(connection, namespace=hall.lanes.keys.namespace, clock="override")
            return lanes.put([job("a"), job("b")], ttl_s=TTL_S)

    replies = await asyncio.to_thread(put)
    assert [reply.outcome for reply in replies] == ["accepted", "accepted"]
    assert await hall.put(job("a")) == ["duplicate"]
    assert await hall.names(5) == ["a", "b"]


async def test_scripts_that_the_server_has_forgotten_are_sent_again(hall: Hall) -> None:
    await hall.client.script_flush()
    assert await hall.put(job("a")) == ["accepted"]
    await hall.client.script_flush()
    assert await hall.names() == ["a"]


async def test_numbers_beyond_what_the_lanes_can_order_by_are_clamped(hall: Hall) -> None:
    await hall.put(job("a", cost=10**30, priority=99), job("b", cost=-5, priority=-1), job("c", due_ms=-1))
    assert await hall.names(3) == ["a", "c", "b"]
