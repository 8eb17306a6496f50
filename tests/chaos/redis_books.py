"""Reads the budget's books in Redis key by key, as the scripts of worker/budget write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import redis.asyncio


@dataclass(frozen=True)
class Held:
    """What one attempt holds in each of its windows."""

    amount_pico: int
    windows: tuple[str, ...]


@dataclass(frozen=True)
class RedisBooks:
    """The books of the epoch in force; None: there are none."""

    epoch: int | None
    held: Mapping[str, Held]  # by attempt, from the records that are not settled
    windows: Mapping[str, tuple[int, int]]  # settled and held, as the windows themselves say
    listed: frozenset[str]  # the attempts that the reaper is told to hold something


async def read(server: redis.asyncio.Redis, namespace: str) -> RedisBooks:
    """SCAN over the keys of the epoch in force. The fleet is at rest: a scan is not one moment."""
    books = f"{namespace}:{{fleet}}:budget"
    epoch = await server.hget(books, "epoch")
    root = f"{books}:{int(epoch or 0)}"
    held, windows = {}, {}
    async for key in server.scan_iter(match=f"{root}:a:*", count=1000):
        amount, settled, names = await server.hmget(key, "hold", "settled", "windows")
        if settled is None:
            attempt = key.decode().removeprefix(f"{root}:a:")
            held[attempt] = Held(int(amount), tuple(names.decode().split("\n")))
    async for key in server.scan_iter(match=f"{root}:w:*", count=1000):
        used, kept = (int(number or 0) for number in await server.hmget(key, "used", "held"))
        windows[key.decode().removeprefix(f"{root}:w:")] = (used - kept, kept)
    listed = frozenset(attempt.decode() for attempt in await server.zrange(f"{root}:holds", 0, -1))
    return RedisBooks(int(epoch) if epoch else None, held, windows, listed)
