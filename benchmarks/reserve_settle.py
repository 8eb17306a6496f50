"""What reserving and settling cost a worker: round trips, its own CPU, and Lua time at the server."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import redis.asyncio

from benchmarks.lane_rig import blocking, lane_valkey
from benchmarks.money_rig import scratch, worker_settings
from benchmarks.rig import table, write_routing
from producer_sdk.contract import uuid7
from tests.servers import Valkey
from worker.assembly import open_redis
from worker.budget import rules
from worker.budget.rules import WindowLimit
from worker.budget.store import BudgetStore, Reserved, Settled
from worker.routing_file import Budget, Provider, Tenant, Tier

PAIRS, RUNS, WATCHED = 2_000, 5, 500
IN_FLIGHT = (1, 100)
WINDOWS = (1, 4, 8)
CONSTANTS = "two constants"
WORST, COST = 5_000_000, 1_234_567
MUCH = Decimal(1_000_000)
BOTH = Budget(MUCH, MUCH)
ENOUGH = "ECHO enough"
Pair = Callable[[], Awaitable[None]]


def windows(count: int) -> tuple[WindowLimit, ...]:
    """A day's alone; with its month's and its feature's two; or with the provider's and the fleet's two each too."""
    tier = Tier("bench", daily_budget_usd=MUCH)
    spender = rules.Spender("chat")
    if count > 1:
        tier = Tier("bench", daily_budget_usd=MUCH, monthly_budget_usd=MUCH, features={"chat": BOTH})
    if count > 4:
        provider = Provider("twin", "openai", "http://twin", budget=BOTH)
        spender = rules.Spender("chat", provider=provider, fleet=BOTH)
    found = rules.windows(Tenant("acme", tier), datetime.now(UTC), spender)
    assert len(found) == count, found
    return found


def budget_pair(store: BudgetStore, limits: Sequence[WindowLimit]) -> Pair:
    """One attempt: reserve, then settle."""

    async def pair() -> None:
        attempt_id = uuid7()
        reserved = await store.reserve(attempt_id, amount_pico=WORST, windows=limits)
        assert isinstance(reserved, Reserved), reserved
        settled = await store.settle(attempt_id, amount_pico=COST)
        assert isinstance(settled, Settled), settled

    return pair


def constant_pair(connection: redis.asyncio.Redis) -> Pair:
    """Two scripts that answer a constant, through the same connection."""
    script = connection.register_script("return 1")

    async def pair() -> None:
        assert await script(keys=["fairlane:{fleet}:budget"], args=[]) == 1
        assert await script(keys=["fairlane:{fleet}:budget"], args=[]) == 1

    return pair


async def all_of(pair: Pair, count: int, in_flight: int) -> None:
    """So many pairs, at most `in_flight` at a time."""

    async def one_by_one() -> None:
        for _ in range(count // in_flight):
            await pair()

    await asyncio.gather(*(one_by_one() for _ in range(in_flight)))


@dataclass(frozen=True)
class Took:
    """What one pair took: reads of the server's sockets, ms of the worker's CPU, ms of the clock."""

    reads: float
    cpu_ms: float
    wall_ms: float


async def took(client: redis.Redis, pair: Pair, in_flight: int) -> Took:
    """One run of PAIRS. The INFO after it is one read itself."""
    before = client.info("stats")["total_reads_processed"]
    began, began_cpu = time.perf_counter(), time.process_time()
    await all_of(pair, PAIRS, in_flight)
    cpu, wall = time.process_time() - began_cpu, time.perf_counter() - began
    reads = client.info("stats")["total_reads_processed"] - before - 1
    return Took(reads / PAIRS, 1000 * cpu / PAIRS, 1000 * wall / PAIRS)


async def commands(server: Valkey, pair: Pair, in_flight: int) -> float:
    """Commands that clients send for a pair, by MONITOR, without those of the scripts themselves."""

    def listen(monitor: redis.client.Monitor) -> int:
        heard = itertools.takewhile(lambda one: one["command"] != ENOUGH, monitor.listen())
        return sum(one["client_type"] != "lua" for one in heard)

    await all_of(pair, WATCHED, in_flight)  # the server learns the scripts, and connections are opened
    with ThreadPoolExecutor(1) as threads, blocking(server) as client, blocking(server) as other:
        other.ping()
        with client.monitor() as monitor:
            listening = asyncio.get_running_loop().run_in_executor(threads, listen, monitor)
            await all_of(pair, WATCHED, in_flight)
            other.execute_command(*ENOUGH.split())
            return await asyncio.wait_for(listening, 30) / WATCHED


async def lua_us(server: Valkey, store: BudgetStore, limits: Sequence[WindowLimit]) -> tuple[float, float]:
    """Microseconds of the server for a reserve, and for a settle."""
    ids = [uuid7() for _ in range(PAIRS)]
    phases: tuple[Callable[[int], Awaitable[object]], ...] = (
        lambda at: store.reserve(ids[at], amount_pico=WORST, windows=limits),
        lambda at: store.settle(ids[at], amount_pico=COST),
    )
    spent = []
    with blocking(server) as client:
        for phase in phases:
            client.config_resetstat()
            for at in range(0, PAIRS, 100):
                await asyncio.gather(*(phase(number) for number in range(at, at + 100)))
            spent.append(evalsha_us(client))
    return spent[0], spent[1]


def evalsha_us(client: redis.Redis) -> float:
    """By the server's own count since the last reset."""
    stats = client.info("commandstats")["cmdstat_evalsha"]
    assert stats["calls"] == PAIRS, stats
    return float(stats["usec_per_call"])


async def constant_us(server: Valkey, connection: redis.asyncio.Redis) -> float:
    """The same of the script that answers a constant."""
    pair = constant_pair(connection)
    with blocking(server) as client:
        await pair()
        client.config_resetstat()
        await all_of(pair, PAIRS // 2, 100)
        return evalsha_us(client)


async def measured(server: Valkey) -> str:
    """Both tables, over the connection that a worker opens."""
    with scratch() as folder:
        settings = worker_settings(server, ledger_url="sqlite://", routing=write_routing(folder), home=folder)
        connection = open_redis(settings)
        try:
            store = BudgetStore(connection)
            assert await store.install(epoch=1, settled={}, holds=[])
            return "\n".join(
                [await worker_table(server, connection, store), await lua_table(server, connection, store)]
            )
        finally:
            await connection.aclose()


async def worker_table(server: Valkey, connection: redis.asyncio.Redis, store: BudgetStore) -> str:
    """What a worker and the network have of it; the cases take turns, for machines are shared and noisy."""
    cases = {CONSTANTS: constant_pair(connection)}
    cases |= {str(count): budget_pair(store, windows(count)) for count in WINDOWS}
    rows = [["in flight", "windows", "commands (≤ 2)", "reads of its sockets", "CPU ms (< 0.5)"]]
    rows[0] += ["÷ two constants", "pairs/s"]
    for in_flight in IN_FLIGHT:
        sent = {name: await commands(server, pair, in_flight) for name, pair in cases.items()}
        with blocking(server) as client:
            runs = [
                {name: await took(client, pair, in_flight) for name, pair in cases.items()}
                for _ in range(RUNS)
            ]
        base = statistics.median(run[CONSTANTS].cpu_ms for run in runs)
        for name in cases:
            reads, cpu, wall = (
                statistics.median(getattr(run[name], what) for run in runs)
                for what in ("reads", "cpu_ms", "wall_ms")
            )
            counts = [f"{sent[name]:.2f}", f"{reads:.2f}"]
            rows.append(
                [str(in_flight), name, *counts, f"{cpu:.3f}", f"{cpu / base:.2f}", f"{1000 / wall:,.0f}"]
            )
    return table(f"Reserve and settle of one attempt (median of {RUNS} × {PAIRS:,})", rows)


async def lua_table(server: Valkey, connection: redis.asyncio.Redis, store: BudgetStore) -> str:
    """What the server has of it."""
    base = await constant_us(server, connection)
    rows = [
        ["windows", "reserve, µs", "settle, µs", "both ÷ two constants"],
        ["a constant", f"{base:.1f}", f"{base:.1f}", "1.0"],
    ]
    for count in WINDOWS:
        runs = [await lua_us(server, store, windows(count)) for _ in range(RUNS)]
        reserve, settle = (statistics.median(numbers) for numbers in zip(*runs, strict=True))
        rows.append([str(count), f"{reserve:.1f}", f"{settle:.1f}", f"{(reserve + settle) / (2 * base):.1f}"])
    return table(f"Lua time at the server for each (median of {RUNS} × {PAIRS:,})", rows)


def run() -> str:
    """Both tables."""
    with lane_valkey() as server:
        return asyncio.run(measured(server))


if __name__ == "__main__":
    print(run())
