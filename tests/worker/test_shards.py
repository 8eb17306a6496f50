"""A worker that starts with another number of shards than its fleet's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis.asyncio

from producer_sdk.lanes import Lanes, Limits, TenantLimits, WrongShards
from tests.producer_sdk.lanes.hall import TTL_S, job
from tests.stories.conftest import home_settings
from worker.consumer import agree_on_shards
from worker.errors import ConfigError
from worker.settings import WorkerSettings

WIDE = Limits(TenantLimits(concurrency=9), {})


@dataclass
class Parts:
    """What of an assembly decides it."""

    lanes: Lanes
    redis: redis.asyncio.Redis
    settings: WorkerSettings


@pytest.fixture
def parts(client: redis.asyncio.Redis, namespace: str, tmp_path: Path) -> Parts:
    usual = home_settings(tmp_path)
    settings = replace(usual, fleet=replace(usual.fleet, namespace=namespace, lane_shards=2))
    return Parts(Lanes(client, namespace=namespace, shards=2), client, settings)


async def old_lanes(client: redis.asyncio.Redis, namespace: str) -> Lanes:
    lanes = Lanes(client, namespace=namespace, shards=4)
    await lanes.agree()
    await lanes.set_limits(WIDE)
    return lanes


async def test_empty_lanes_take_the_workers_number_and_leave_nothing_permanent(
    parts: Parts, client: redis.asyncio.Redis, namespace: str
) -> None:
    old = await old_lanes(client, namespace)
    await agree_on_shards(parts)
    with pytest.raises(WrongShards, match="have 2 shards"):
        await old.put([job(f"j{number}", f"t{number}") for number in range(9)], ttl_s=TTL_S)
    for keys in old.shards.all[2:]:
        async for key in client.scan_iter(keys.root + "*"):
            assert await client.ttl(key) > 0


@pytest.mark.parametrize("left", ["a job", "a pause", "a dead letter"])
async def test_with_anything_left_in_them_the_old_number_stands(
    parts: Parts, client: redis.asyncio.Redis, namespace: str, left: str
) -> None:
    old = await old_lanes(client, namespace)
    if left == "a pause":
        await old.pause("t1")
    else:
        await old.put([job("a", "t1")], ttl_s=TTL_S)
    if left == "a dead letter":
        await client.set(old.shards.of_tenant("t1").root + "message:a", b"p")
        await old.take(9, worker="w", lease_ms=60_000, op_id="op")
    with pytest.raises(ConfigError, match="have 4 shards: set FAIRLANE_LANE_SHARDS=4, or let the jobs"):
        await agree_on_shards(parts)
    assert (await old.put([job("b", "t2")], ttl_s=TTL_S))[0].outcome == "accepted"
    await old.set_limits(WIDE)
    assert (await old.counts()).pending >= 1
