"""What a take costs inside the server as more tenants wait, and what a pending job needs beyond its message."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Iterator
from dataclasses import replace

import redis.asyncio

from benchmarks.lane_rig import entries, fill, lane_valkey, open_lanes, pattern
from benchmarks.nap import Nap
from benchmarks.rig import table
from producer_sdk.contract import uuid7
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import Finished, Lanes, Limits, TenantLimits
from tests.servers import Valkey

TENANTS, JOBS = (10, 1_000, 100_000), 200_000
BLOCKS, TAKEN_A_BLOCK = 5, 640
SIZES = (1, 32)
# with limits, but none that is reached
LIMITS = Limits(TenantLimits(concurrency=10_000, requests_per_min=10**8, tokens_per_min=10**8), {})


def jobs(tenants: int) -> Iterator[LaneEntry]:
    """JOBS jobs, the tenants' in turn, their messages of many lengths."""
    random.seed(tenants)
    parts = [
        entries(pattern("nobody", Nap(20, 10), padding="x" * random.randrange(300)), JOBS // 100)
        for _ in range(100)
    ]
    for number in range(JOBS):
        yield replace(next(parts[number % 100]), tenant=f"t{number % tenants:06d}")


async def take_us(client: redis.asyncio.Redis, lanes: Lanes, n: int) -> float:
    """Microseconds a take of n jobs, by the server's own count; its jobs are finished afterwards."""
    tags = []
    await lanes.take(0, worker="bench", lease_ms=60_000, op_id=uuid7().hex)  # the server learns the script
    await client.config_resetstat()
    for _ in range(TAKEN_A_BLOCK // n):
        reply = await lanes.take(n, worker="bench", lease_ms=60_000, op_id=uuid7().hex)
        assert len(reply.deliveries) == n
        tags += [delivery.tag for delivery in reply.deliveries]
    stats = (await client.info("commandstats"))["cmdstat_evalsha"]
    assert stats["calls"] == TAKEN_A_BLOCK // n, stats
    assert all(await lanes.finish([Finished(tag, None, 1, None, used=(20, 10)) for tag in tags]))
    return float(stats["usec_per_call"])


async def measured(server: Valkey, tenants: int) -> tuple[list[float], float]:
    """Microseconds of a take for each of SIZES, and bytes a pending job beyond its message."""
    async with open_lanes(server) as (client, lanes):
        await client.flushall()
        await lanes.set_limits(LIMITS)
        await lanes.agree()
        before = (await client.info("memory"))["used_memory"]
        size = await fill(lanes, jobs(tenants))
        await asyncio.sleep(2)  # until its buffers have gone to the log
        after = (await client.info("memory"))["used_memory"]
        for n in SIZES:
            await take_us(client, lanes, n)
        blocks = [[await take_us(client, lanes, n) for n in SIZES] for _ in range(BLOCKS)]
        return [statistics.median(block) for block in zip(*blocks, strict=True)], (
            after - before - size
        ) / JOBS


def run() -> str:
    """The table: ten tenants are the baseline."""
    rows = [["tenants", "take 1, µs", "÷ 10 tenants (≤ 2)", "take 32, µs", "÷ 10 tenants (≤ 2)"]]
    rows[0].append("bytes a pending job beyond its message (≤ 300)")
    base: list[float] = []
    for tenants in TENANTS:
        with lane_valkey() as server:
            took, beyond = asyncio.run(measured(server, tenants))
        base = base or took
        costs = [
            text for us, least in zip(took, base, strict=True) for text in (f"{us:.0f}", f"{us / least:.2f}")
        ]
        rows.append([f"{tenants:,}", *costs, f"{beyond:.0f}"])
    return table(f"Lua time a take, and memory, with {JOBS:,} pending jobs (median of {BLOCKS})", rows)


if __name__ == "__main__":
    print(run())
