"""A quiet tenant's wait beside another tenant's million pending jobs ÷ beside only as many as there are slots."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import redis.asyncio

from benchmarks.lane_rig import (
    KEYS,
    begun,
    blocking,
    entries,
    fill,
    lane_valkey,
    nap_worker,
    open_lanes,
    pattern,
    percentile,
    wait_for_workers,
)
from benchmarks.nap import Nap
from benchmarks.rig import table
from producer_sdk.lanes import Lanes
from tests.servers import Valkey, wait_until

SLOTS, CROWD = 16, 1_000_000
ROUNDS, SAMPLES = 7, 250
NAP = Nap(20, 10, 0.03, 0.09)
CROWDED, QUIET = "acme", "globex"
MOST = 10**9


@dataclass
class Side:
    """One fleet, in which the crowded tenant always has `depth` jobs pending while it is measured."""

    server: Valkey
    client: redis.asyncio.Redis
    lanes: Lanes
    depth: int
    rounds_ms: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.crowd = entries(pattern(CROWDED, NAP), MOST)
        self.quiet = entries(pattern(QUIET, NAP), MOST)

    async def top_up(self) -> None:
        """As many jobs as the crowd lacks."""
        lacking = self.depth - await self.client.zcard(f"{KEYS.root}queue:interactive::{CROWDED}")
        if lacking > 0:
            await fill(self.lanes, (next(self.crowd) for _ in range(lacking)))

    @contextlib.asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Every slot is busy with the crowd's jobs; afterwards the fleet rests."""

        over = asyncio.Event()

        async def keep_up() -> None:
            while not over.is_set():
                await self.top_up()
                await asyncio.sleep(0.005)

        await self.top_up()
        await self.lanes.resume(CROWDED)
        keeping = asyncio.create_task(keep_up())
        try:
            await asyncio.sleep(0.5)
            yield
        finally:
            over.set()
            await keeping
            await self.lanes.pause(CROWDED)

    async def round(self) -> None:
        """SAMPLES jobs of the quiet tenant, one at a time, each from just before its put until its handler began."""
        asked: dict[str, float] = {}
        async with self.busy():
            for job in (next(self.quiet) for _ in range(SAMPLES)):
                await asyncio.sleep(random.uniform(0.01, 0.03))
                asked[job.job_id] = time.time()
                await fill(self.lanes, [job])
            await asyncio.sleep(0.5)
        with blocking(self.server) as client:
            wait_until(lambda: all(begun(client, list(asked))), what="every result of the quiet tenant")
            starts = begun(client, list(asked))
        self.rounds_ms.append(
            [(one.began_s - put_s) * 1000 for one, put_s in zip(starts, asked.values(), strict=True) if one]
        )

    def wait_ms(self, share: float) -> float:
        """The wait that this share of the jobs does not exceed: the median of the rounds."""
        return statistics.median(percentile(waits, share) for waits in self.rounds_ms)


@contextlib.asynccontextmanager
async def side(depth: int) -> AsyncIterator[Side]:
    """A fleet of its own, filled, at rest."""
    with lane_valkey() as server, nap_worker(server, slots=SLOTS):
        wait_for_workers(server, 1)
        async with open_lanes(server) as (client, lanes):
            await lanes.pause(CROWDED)
            found = Side(server, client, lanes, depth)
            await found.top_up()
            yield found


async def both() -> tuple[Side, Side]:
    """Both sides, by turns, so that what else the machine does meets both."""
    async with side(SLOTS) as few, side(CROWD) as many:
        for one in (few, many) * ROUNDS:
            await one.round()
        return few, many


def run() -> str:
    """The table: p99, and the median beside it."""
    few, many = asyncio.run(both())
    rows = [
        ["pending jobs of the other tenant", "median wait, ms", "p99 wait, ms", "÷ as many as slots (≤ 1.3)"]
    ]
    for one in (few, many):
        row = [f"{one.depth:,}", f"{one.wait_ms(0.5):.1f}", f"{one.wait_ms(0.99):.1f}"]
        rows.append([*row, f"{one.wait_ms(0.99) / few.wait_ms(0.99):.2f}"])
    title = f"A quiet tenant's wait while all {SLOTS} slots are busy (median of {ROUNDS} rounds of {SAMPLES} jobs)"
    return table(title, rows)


if __name__ == "__main__":
    print(run())
