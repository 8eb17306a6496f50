"""How much of a limit is used by four workers, that it is never exceeded, and what waiting jobs cost meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.lane_rig import (
    begun,
    blocking,
    entries,
    fill,
    lane_valkey,
    nap_worker,
    open_lanes,
    pattern,
    wait_for_workers,
)
from benchmarks.nap import Nap
from benchmarks.rig import ROUTING, rss_mb, table
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import Lanes
from tests.servers import Valkey

WORKERS, SLOTS, SECONDS, THROTTLED = 4, 25, 70.0, 100_000
BURST_S, REQUESTS_PER_MIN, TOKENS_PER_MIN = 6, 1200, 600_000
LIMITED = f"""
  requests: {{concurrency: 1000, burst_s: {BURST_S}, requests_per_min: {REQUESTS_PER_MIN}}}
  tokens: {{concurrency: 1000, burst_s: {BURST_S}, tokens_per_min: {TOKENS_PER_MIN}}}
  nothing: {{concurrency: 1000, tokens_per_min: 1}}
tenants:
  umbrella: {{tier: requests}}
  initech: {{tier: tokens}}
  hooli: {{tier: nothing}}
"""
ROUTES = ROUTING.replace("\ntenants:\n", LIMITED)


@dataclass(frozen=True)
class Jobs:
    """One tenant's jobs, and what each really takes of the limit."""

    kind: str
    limit_per_min: int
    entries: list[LaneEntry]
    takes: list[int]

    @property
    def burst(self) -> float:
        """What is saved up."""
        return self.limit_per_min * BURST_S / 60


def requests() -> Jobs:
    """More jobs than may go."""
    many = list(entries(pattern("umbrella", Nap(20, 10, 0.01, 0.05)), int(1.5 * REQUESTS_PER_MIN)))
    return Jobs("requests_per_min", REQUESTS_PER_MIN, many, [1] * len(many))


def tokens() -> Jobs:
    """Jobs of random size, estimated up to twice too high: their max_output_tokens are, as a rule."""

    def made() -> Iterator[tuple[LaneEntry, int]]:
        left = 1.5 * TOKENS_PER_MIN
        while left > 0:
            nap = Nap(random.randrange(50, 600), random.randrange(10, 300), 0.01, 0.05)
            [entry] = entries(pattern("initech", nap), 1)
            left -= entry.tokens
            yield replace(entry, tokens=int(entry.tokens * random.uniform(1, 2))), entry.tokens

    many, takes = zip(*made(), strict=True)
    return Jobs("tokens_per_min", TOKENS_PER_MIN, list(many), list(takes))


def used(server: Valkey, jobs: Jobs) -> tuple[float, float]:
    """The share of the allowance that was used after the first burst; the worst minute ÷ (limit + burst)."""
    with blocking(server) as client:
        starts = begun(client, [job.job_id for job in jobs.entries])
    taken = sorted((one.taken_ms, takes) for one, takes in zip(starts, jobs.takes, strict=True) if one)
    first, length = taken[0][0], (SECONDS - 2) * 1000
    spent = sum(takes for at, takes in taken if at < first + length)
    allowed = jobs.limit_per_min * length / 60_000
    return (spent - jobs.burst) / allowed, worst_minute(taken) / (jobs.limit_per_min + jobs.burst)


def worst_minute(taken: Sequence[tuple[int, int]]) -> int:
    """The most that was taken in any 60 seconds."""
    worst = inside = 0
    oldest = iter(taken)
    at_left, left = next(oldest)
    for at, takes in taken:
        inside += takes
        while at_left <= at - 60_000:
            inside -= left
            at_left, left = next(oldest)
        worst = max(worst, inside)
    return worst


async def most_running(lanes: Lanes, until: float) -> int:
    """The most slots that the tenant with nothing left held, ten looks a second."""
    most = 0
    while time.monotonic() < until:
        [queue] = [one for one in await lanes.depths() if (one.tenant, one.lane) == ("hooli", "interactive")]
        assert queue.pending == THROTTLED, queue
        assert queue.throttled_ms > 0, queue
        most = max(most, queue.running)
        await asyncio.sleep(0.1)
    return most


async def measured(server: Valkey, pids: Sequence[int], limited: Sequence[Jobs]) -> tuple[int, list[float]]:
    """The most slots held by who has nothing left; the largest worker's MB before its jobs, with them, at the end."""

    def largest_mb() -> float:
        return max(rss_mb(pid) for pid in pids)

    async with open_lanes(server) as (client, lanes):
        warming = list(entries(pattern("acme", Nap(20, 10)), 2000))
        [last] = entries(pattern("hooli", Nap(20, 10)), 1)  # overdraws the bucket for half an hour
        await fill(lanes, [*warming, last])
        while await client.exists(*[lanes.keys.result(job.job_id) for job in (*warming, last)]) <= len(
            warming
        ):
            await asyncio.sleep(0.1)
        memory = [largest_mb()]
        await fill(lanes, entries(pattern("hooli", Nap(20, 10)), THROTTLED))
        await asyncio.sleep(3)
        memory.append(largest_mb())
        for jobs in limited:
            await fill(lanes, jobs.entries)
        most = await most_running(lanes, time.monotonic() + SECONDS)
        return most, [*memory, largest_mb()]


def run() -> str:
    """Two tables: the limits, and a tenant with nothing left."""
    limited = (requests(), tokens())
    with lane_valkey() as server, contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(nap_worker(server, slots=SLOTS, routing=ROUTES)) for _ in range(WORKERS)
        ]
        wait_for_workers(server, WORKERS)
        pids = [worker.pid for worker in workers]
        most, memory = asyncio.run(measured(server, pids, limited))
        rows = [
            [
                "limit",
                "a minute",
                "burst",
                "used after the burst (≥ 97 %)",
                "worst minute ÷ (limit + burst) (≤ 1)",
            ]
        ]
        for jobs in limited:
            share, worst = used(server, jobs)
            numbers = [f"{jobs.limit_per_min:,}", f"{jobs.burst:,.0f}", f"{share:.2%}", f"{worst:.4f}"]
            rows.append([jobs.kind, *numbers])
    title = f"Limits kept by {WORKERS} workers over {SECONDS - 2:.0f} s"
    head = ["pending jobs of a tenant with nothing left", "slots it holds (0)", "worker RSS MB before"]
    head += ["with them", "after the minute"]
    idle = [head, [f"{THROTTLED:,}", str(most), *(f"{mb:.0f}" for mb in memory)]]
    return table(title, rows) + "\n" + table("What throttled jobs cost", idle)


if __name__ == "__main__":
    print(run())
