"""A fleet's lanes in several parts: each tenant in one, each part in one slot of a cluster."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import aclosing

import pytest
import redis.asyncio
from redis.crc import key_slot

from producer_sdk.lanes import Lanes, LanesBlocking, Limits, TaskLimits, TenantLimits, WrongShards
from producer_sdk.lanes.keys import RESULT_PREFIX, Shards
from tests.producer_sdk.lanes.hall import LEASE_MS, TTL_S, ended, job
from tests.servers import Valkey

WIDE = Limits(TenantLimits(concurrency=100), {})
TENANTS = [f"tenant-{number}" for number in range(40)]


@pytest.fixture
async def lanes(client: redis.asyncio.Redis, namespace: str) -> Lanes:
    found = Lanes(client, namespace=namespace, shards=4)
    await found.set_limits(WIDE)
    return found


async def take(lanes: Lanes, n: int, op_id: str = "op") -> list:
    return list((await lanes.take(n, worker="w", lease_ms=LEASE_MS, op_id=op_id)).deliveries)


async def test_every_tenant_is_in_one_shard_and_all_shards_are_used(lanes: Lanes) -> None:
    await lanes.put([job(f"{tenant}-{n}", tenant) for tenant in TENANTS for n in range(3)], ttl_s=TTL_S)
    shards = defaultdict(set)
    for keys in lanes.shards.all:
        async for key in lanes._redis.scan_iter(keys.root + "queue:*"):
            shards[key.decode().rpartition(":")[2]].add(keys.shard)
    assert set(shards) == set(TENANTS)
    assert all(len(found) == 1 for found in shards.values())
    assert {shard for found in shards.values() for shard in found} == {0, 1, 2, 3}


async def test_every_verb_finds_its_job_wherever_it_is(lanes: Lanes) -> None:
    entries = [job(tenant, tenant) for tenant in TENANTS]
    replies = await lanes.put(entries, ttl_s=TTL_S)
    assert [(reply.job_id, reply.outcome) for reply in replies] == [(name, "accepted") for name in TENANTS]
    held = await take(lanes, 30)
    assert len(held) == 30
    assert [one.tag for one in await take(lanes, 30)] == [one.tag for one in held], "the same operation again"
    assert await lanes.live([one.tag for one in held] + ["never:put.2", "odd", ""]) == {
        one.tag for one in held
    }
    beat = await lanes.beat([*(one.tag for one in held), "never:put.99"], lease_ms=LEASE_MS)
    assert beat.lost == {"never:put.99"}
    first, second, third, fourth, *others = held
    assert await lanes.cancel(first.job_id) == "running"
    assert await lanes.hand_back(second.tag)
    assert await lanes.move(third.tag, job(third.job_id, third.tenant))
    assert await lanes.finish([ended(fourth), *(ended(one) for one in others)]) == [True] * 27
    states = {state.job_id: state.state for state in await lanes.states([*TENANTS, "never put"])}
    assert (states[first.job_id], states[second.job_id]) == ("running", "pending")
    assert (states[fourth.job_id], states["never put"]) == ("finished", "unknown")
    counts = await lanes.counts()
    assert (counts.pending, counts.running) == (12, 1)
    assert len(await lanes.depths()) == 2 * len(TENANTS)
    await lanes.pause(first.tenant, reason="a test")
    assert [pause.tenant for pause in await lanes.pauses()] == [first.tenant]
    assert await lanes.resume(first.tenant)
    assert len(await take(lanes, 50, "again")) == 12


async def test_a_take_goes_round_the_shards(lanes: Lanes) -> None:
    await lanes.put([job(f"{tenant}-{n}", tenant) for tenant in TENANTS for n in range(3)], ttl_s=TTL_S)
    shards = {(await take(lanes, 1, f"op{turn}"))[0].tag.rpartition(".")[2] for turn in range(30)}
    assert shards == {"0", "1", "2", "3"}


async def test_who_knows_another_number_of_shards_is_refused(
    lanes: Lanes, client: redis.asyncio.Redis, namespace: str, valkey: Valkey
) -> None:
    await lanes.put([job("a")], ttl_s=TTL_S)
    with pytest.raises(WrongShards, match="have 4 shards: set FAIRLANE_LANE_SHARDS=4"):
        await Lanes(client, namespace=namespace).put([job("b")], ttl_s=TTL_S)
    with redis.Redis.from_url(valkey.redis_url) as blocking, pytest.raises(WrongShards):
        LanesBlocking(blocking, namespace=namespace, shards=2).put([job("b")], ttl_s=TTL_S)


async def test_empty_lanes_may_change_their_number_and_who_knew_the_old_one_is_refused(
    lanes: Lanes, client: redis.asyncio.Redis, namespace: str
) -> None:
    await lanes.put([job("a")], ttl_s=TTL_S)
    fewer = Lanes(client, namespace=namespace, shards=2)
    with pytest.raises(WrongShards):
        await fewer.agree()
    await fewer.agree(change_from=4)
    for tenant in TENANTS:
        with pytest.raises(WrongShards, match="have 2 shards"):
            await lanes.put([job(f"b-{tenant}", tenant)], ttl_s=TTL_S)
    assert (await fewer.put([job("c")], ttl_s=TTL_S))[0].outcome == "accepted"


def test_a_tag_names_its_shard() -> None:
    shards = Shards("x", 4)
    assert shards.of_tag("job:" + shards.operation("op", 3)).shard == 3
    assert [shards.of_tag(tag).shard for tag in ("", "job:op", "job:op.9", "job:op.x", "job:op.0")] == [0] * 5
    assert Shards("x").operation("op", 0) == "op"


async def test_every_key_that_a_script_touches_is_in_its_shards_slot(own_valkey: Valkey) -> None:
    """MONITOR shows what the scripts do; results alone, which Celery's clients must find, have names without a tag."""
    async with redis.asyncio.Redis.from_url(own_valkey.redis_url) as client:
        lanes = Lanes(client, shards=3)
        async with client.monitor() as monitor:
            await _use_every_verb(lanes)
            await client.echo("the end")
            slots, touched = set(), 0
            async with aclosing(monitor.listen()) as commands:
                async for said in commands:
                    if said["command"].startswith("ECHO"):
                        break
                    keys = await _keys_of(client, said["command"]) if said["client_type"] == "lua" else []
                    touched += len(keys)
                    slots |= {key_slot(key.encode()) for key in keys if not key.startswith(RESULT_PREFIX)}
    assert slots == {key_slot(keys.root.encode()) for keys in lanes.shards.all}
    assert touched > 200


async def _keys_of(client: redis.asyncio.Redis, command: str) -> list[str]:
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', command)
    parts = [quoted or plain for quoted, plain in words]
    if parts[0].upper() in ("TIME", "INFO", "PUBLISH"):
        return []
    keys = await client.execute_command("COMMAND GETKEYS", *parts)
    return [key.decode() if isinstance(key, bytes) else key for key in keys]


async def _use_every_verb(lanes: Lanes) -> None:
    tasks = {"rag": TaskLimits(concurrency=1)}
    limited = TenantLimits(concurrency=2, requests_per_min=600, tokens_per_min=6000, tasks=tasks)
    await lanes.set_limits(Limits(limited, {}))
    jobs = [job(f"{tenant}-{n}", tenant, task=("rag", "")[n % 2]) for tenant in TENANTS[:9] for n in range(4)]
    await lanes.put(jobs, ttl_s=TTL_S)
    await lanes.put([job("late", due_ms=2**45), job("old", deadline_ms=1)], ttl_s=TTL_S)
    held = await take(lanes, 12)
    await lanes.beat([one.tag for one in held], lease_ms=LEASE_MS)
    await lanes.finish([ended(held[0], used=(1, 1)), ended(held[1])])
    await lanes.hand_back(held[2].tag, delay_ms=100)
    await lanes.move(held[3].tag, job(held[3].job_id, held[3].tenant))
    for name in (held[4].job_id, "late", jobs[-1].job_id):
        await lanes.cancel(name)
    await lanes.pause(TENANTS[0], for_ms=2**40)
    await lanes.resume(TENANTS[0])
    await lanes.live([one.tag for one in held])
    for keys in lanes.shards.all:
        await lanes._redis.hset(keys.root + "state", "hold", 0)
        await lanes._redis.zadd(keys.root + "unacked", {one.job_id: 1 for one in held[5:]}, xx=True)
    await lanes.sweep(lease_ms=LEASE_MS, delivery_cap=1)
    for _ in (lanes.depths, lanes.counts, lanes.dead, lanes.pauses):
        await _()
    await lanes.dead_message(held[5].job_id)
    await lanes.discard([held[5].job_id])
    await take(lanes, 50, "last")
