"""Shares of tokens that tenants of weights 1, 2 and 4 receive while all of them want more, beside the ideal."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from benchmarks.lane_rig import TTL_S, entries, lane_valkey, open_lanes, pattern
from benchmarks.nap import Nap
from benchmarks.rig import table
from producer_sdk.contract import uuid7
from producer_sdk.contract.envelope import LaneEntry, unpack
from producer_sdk.lanes import Delivery, Finished, Lanes, Limits, TenantLimits
from tests.servers import Valkey

SECONDS, CLIENTS, SLOTS = 60.0, 4, 25
WAITING, LEASE_MS = 400, 60_000
WEIGHTS = {"acme": 1, "globex": 2, "initech": 4}
BIASES = {"acme": 2.0, "globex": 1.0, "initech": 0.5}  # one always estimates twice too much, one half of it
LIMITS = Limits(
    TenantLimits(), {name: TenantLimits(concurrency=1000, weight=float(w)) for name, w in WEIGHTS.items()}
)


def jobs(tenant: str) -> Iterator[LaneEntry]:
    """Jobs of random size without an end, each estimated wrong by up to twice either way around its tenant's bias."""
    while True:
        nap = Nap(random.randrange(20, 2000), random.randrange(10, 600), 0.05, 0.15)
        [entry] = entries(pattern(tenant, nap), 1)
        wrong = BIASES[tenant] * 2 ** random.uniform(-1, 1)
        yield replace(entry, cost=max(1, int(entry.cost * wrong)), tokens=int(entry.tokens * wrong))


@dataclass
class Served:
    """What each tenant has received: jobs, and tokens as fairness counts them (input + 2 · output)."""

    jobs: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    def share(self, tenant: str) -> float:
        """Of the tokens."""
        return self.tokens[tenant] / self.tokens.total()


async def keep_waiting(lanes: Lanes, until: float) -> None:
    """At least WAITING jobs of every tenant, so that nobody's queue runs dry."""
    makers = {tenant: jobs(tenant) for tenant in WEIGHTS}
    while time.monotonic() < until:
        queues = [queue for queue in await lanes.depths() if queue.lane == "interactive"]
        depths = {queue.tenant: queue.pending for queue in queues}
        for tenant, made in makers.items():
            lacking = [next(made) for _ in range(WAITING - depths.get(tenant, 0))]
            if lacking:
                await lanes.put(lacking, ttl_s=TTL_S)
        await asyncio.sleep(0.05)


async def work(lanes: Lanes, served: Served, until: float) -> None:
    """A client with SLOTS slots: takes what is free, naps, and finishes with the tokens really used."""
    free, running = SLOTS, set()
    freed = asyncio.Event()

    async def run_one(delivery: Delivery) -> None:
        nonlocal free
        nap = nap_of(delivery)
        await asyncio.sleep(random.uniform(nap.least_s, nap.most_s))
        used = (nap.input_tokens, nap.output_tokens)
        await lanes.finish([Finished(delivery.tag, None, 1, None, used=used)])
        if time.monotonic() < until:
            served.jobs[delivery.tenant] += 1
            served.tokens[delivery.tenant] += used[0] + 2 * used[1]
        free += 1
        freed.set()

    while time.monotonic() < until:
        freed.clear()
        reply = await lanes.take(free, worker="bench", lease_ms=LEASE_MS, op_id=uuid7().hex)
        free -= len(reply.deliveries)
        for delivery in reply.deliveries:
            running.add(asyncio.create_task(run_one(delivery)))
        if not free:
            await freed.wait()
        elif not reply.deliveries:
            await asyncio.sleep(0.005)
    await asyncio.gather(*running)


def nap_of(delivery: Delivery) -> Nap:
    """What the job was told."""
    return Nap.heard(unpack(delivery.message).body.split(b'"content":"')[1].split(b'"')[0].decode())


async def measured(server: Valkey) -> Served:
    """SECONDS of saturation."""
    served = Served()
    async with contextlib.AsyncExitStack() as stack:
        each = [await stack.enter_async_context(open_lanes(server)) for _ in range(CLIENTS + 1)]
        feeding, *working = [lanes for _client, lanes in each]
        await feeding.set_limits(LIMITS)
        filling = asyncio.create_task(keep_waiting(feeding, time.monotonic() + SECONDS + 1))
        await asyncio.sleep(1)
        until = time.monotonic() + SECONDS
        await asyncio.gather(*(work(lanes, served, until) for lanes in working))
        await filling
    return served


def run() -> str:
    """The table, a tenant a row."""
    with lane_valkey() as server:
        served = asyncio.run(measured(server))
    rows = [["tenant", "weight", "jobs", "tokens", "share", "ideal", "off by (≤ 5 %)"]]
    for tenant, weight in WEIGHTS.items():
        ideal = weight / sum(WEIGHTS.values())
        counts = [f"{served.jobs[tenant]:,}", f"{served.tokens[tenant]:,}"]
        off = served.share(tenant) / ideal - 1
        rows.append(
            [tenant, str(weight), *counts, f"{served.share(tenant):.2%}", f"{ideal:.2%}", f"{off:+.2%}"]
        )
    return table(f"Tokens received by weight in {SECONDS:.0f} s, {CLIENTS} clients of {SLOTS} slots", rows)


if __name__ == "__main__":
    print(run())
