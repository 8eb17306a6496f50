"""Many callers, few round trips; each gets its own reply or its own error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from tests.servers import Valkey
from worker.gathering import MOST_A_PIPELINE, MOST_UNDER_WAY, GatheringRedis


@pytest.fixture
async def gathering(valkey: Valkey) -> AsyncIterator[GatheringRedis]:
    client = GatheringRedis.from_url(valkey.redis_url)
    yield client
    await client.aclose()


async def test_every_caller_gets_its_own_reply(gathering: GatheringRedis, namespace: str) -> None:
    await asyncio.gather(*(gathering.set(f"{namespace}:{n}", n, ex=60) for n in range(300)))
    replies = await asyncio.gather(*(gathering.get(f"{namespace}:{n}") for n in range(300)))
    assert replies == [str(n).encode() for n in range(300)]


async def test_an_error_is_its_callers_alone(gathering: GatheringRedis, namespace: str) -> None:
    await gathering.set(namespace, "text", ex=60)
    wrong, right = await asyncio.gather(
        gathering.incr(namespace), gathering.get(namespace), return_exceptions=True
    )
    assert isinstance(wrong, redis.ResponseError)
    assert right == b"text"


async def test_an_unknown_script_is_loaded_and_run(gathering: GatheringRedis) -> None:
    script = gathering.register_script("return 'never seen before: ' .. ARGV[1]")
    await gathering.script_flush()
    assert await script(args=["yes"]) == b"never seen before: yes"


async def test_callers_share_round_trips(gathering: GatheringRedis, namespace: str) -> None:
    await gathering.set(namespace, 0, ex=60)
    before = (await gathering.info("clients"))["connected_clients"]
    await asyncio.gather(*(gathering.incr(namespace) for _ in range(10 * MOST_A_PIPELINE)))
    after = (await gathering.info("clients"))["connected_clients"]
    assert await gathering.get(namespace) == str(10 * MOST_A_PIPELINE).encode()
    assert after - before <= MOST_UNDER_WAY


async def test_a_caller_that_gives_up_takes_nobody_with_it(gathering: GatheringRedis, namespace: str) -> None:
    gone = asyncio.ensure_future(gathering.set(f"{namespace}:gone", 1, ex=60))
    stays = asyncio.ensure_future(gathering.set(f"{namespace}:stays", 1, ex=60))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_dead_server_is_every_callers_error(own_valkey: Valkey) -> None:
    client = GatheringRedis.from_url(own_valkey.redis_url, retry=None)
    assert await client.ping()
    own_valkey.kill()
    replies = await asyncio.gather(client.get("a"), client.get("b"), return_exceptions=True)
    assert all(isinstance(reply, redis.ConnectionError) for reply in replies)
    await client.aclose()
