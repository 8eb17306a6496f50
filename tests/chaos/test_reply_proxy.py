"""The proxy itself: requests pass, a take's reply is kept back and then given whole, other connections go on."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.asyncio

from producer_sdk.contract import Job, Message
from producer_sdk.contract.envelope import pack
from producer_sdk.lanes import Lanes
from producer_sdk.settings import redis_url
from tests.chaos.reply_proxy import TAKE, ReplyProxies, TakesSeen
from tests.chaos.scene import until
from tests.servers import Valkey

REQUEST = (
    b"*1\r\n$4\r\nPING\r\n*9\r\n$7\r\n"
    + TAKE
    + b"$1\r\n1\r\n$2\r\nr:\r\n$2\r\n32\r\n$2\r\nw1\r\n$4\r\n3000\r\n$3\r\nop7\r\n"
)


@pytest.fixture
def proxies(valkey: Valkey) -> Iterator[ReplyProxies]:
    with (
        tempfile.TemporaryDirectory(prefix="fl-") as folder,
        ReplyProxies(valkey.socket, Path(folder)) as ready,
    ):
        yield ready


@pytest.mark.parametrize("size", [1, 7, 50, len(REQUEST)])
def test_a_take_is_seen_in_whatever_pieces_it_comes(size: int) -> None:
    seen = TakesSeen()
    for _ in range(2):
        found = [seen.read(REQUEST[at : at + size]) for at in range(0, len(REQUEST), size)]
        assert [operation for operation in found if operation] == ["op7"]
        assert found[-1] == "op7"


async def test_a_held_take_has_run_and_its_reply_comes_whole_when_it_is_let_go(
    client: redis.asyncio.Redis, proxies: ReplyProxies, namespace: str
) -> None:
    through = redis.asyncio.Redis.from_url(redis_url(proxies.open("w1")))
    lanes, behind = Lanes(client, namespace=namespace), Lanes(through, namespace=namespace)
    words = random.Random(1).randbytes(100_000).hex()  # more than one piece, however it is packed
    entry = pack(Job(tenant="ants", task="ask", messages=[Message(role="user", content=words)]))
    await lanes.put([entry], ttl_s=60)
    await behind.take(0, worker="w1", lease_ms=9000, op_id="knows-the-script")
    with proxies.holding():
        taking = asyncio.create_task(behind.take(5, worker="w1", lease_ms=9000, op_id="op7"))
        [held] = await until(lambda: [held for held in proxies.held() if held.answered_at], what="its answer")
        assert (held.worker, held.operation) == ("w1", "op7")
        assert (await lanes.counts()).running == 1
        assert await through.ping()  # on another connection
        assert not taking.done()
        proxies.let_go(held)
        reply = await asyncio.wait_for(taking, 5)
    [delivery] = reply.deliveries
    assert delivery.message == entry.message
    await through.aclose()


async def test_who_hangs_up_on_a_held_reply_takes_nobody_along(
    client: redis.asyncio.Redis, proxies: ReplyProxies, namespace: str
) -> None:
    """As a killed worker does."""
    through = redis.asyncio.Redis.from_url(redis_url(proxies.open("w1")))
    other = redis.asyncio.Redis.from_url(redis_url(proxies.open("w2")))
    behind = Lanes(through, namespace=namespace)
    await behind.take(0, worker="w1", lease_ms=9000, op_id="knows-the-script")
    with proxies.holding():
        taking = asyncio.create_task(behind.take(5, worker="w1", lease_ms=9000, op_id="op7"))
        await until(lambda: any(held.answered_at for held in proxies.held()), what="its answer")
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await through.aclose()
        await until(lambda: not proxies.held(), what="the end of its connection")
        proxies.close("w1")
        assert await other.ping()
    await other.aclose()
