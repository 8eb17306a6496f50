"""Streaming: how late words come to the producer beside a direct read, and what it costs in jobs per second."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks.lane_rig import blocking, wait_for_workers
from benchmarks.money_rig import DISK, database, scratch, worker_settings
from benchmarks.rig import process, python, rate_of, table, valkey, write_routing
from benchmarks.stamped_upstream import stamped_upstream
from producer_sdk import AsyncFleet, FleetSettings
from producer_sdk.contract import Job, Message
from tests.servers import Valkey

SLOTS, WORDS, EVERY_MS, ANSWERS = 400, 40, 25, 10
JOBS, AT_ONCE = 600, 50
ASKED = {"model": "twin-small", "stream": True, "messages": [{"role": "user", "content": "Where is it?"}]}


@contextmanager
def fleet_of(upstream: str, *, words: int, every_ms: int) -> Iterator[tuple[FleetSettings, Valkey]]:
    """One worker whose provider says so many words."""
    with (
        scratch(where=DISK) as folder,
        valkey("everysec") as server,
        database("SQLite", folder) as url,
    ):
        settings = worker_settings(server, ledger_url=url, routing=write_routing(folder), home=folder)
        environ = settings.to_env() | {
            "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
            "FAIRLANE_LOCAL_URL": f"{upstream}/{words}/{every_ms}/v1",
            "FAIRLANE_SLOTS": str(SLOTS),
        }
        command = python("celery", "-A", "worker.main", "worker", "--pool", "custom", "-c", str(SLOTS))
        command += ["-l", "WARNING", "--without-gossip", "--without-mingle"]
        with process(command, environ, folder / "worker.log"):
            wait_for_workers(server, 1)
            yield settings.fleet, server


def jobs(count: int, what: str, *, stream: bool) -> list[Job]:
    """Questions that nobody has asked before."""
    return [
        Job(
            tenant="acme",
            task="classify_intent",
            messages=[Message(role="user", content=f"Where is {what} {number}?")],
            stream=stream,
        )
        for number in range(count)
    ]


def lateness(text: str) -> list[float]:
    """How many ms ago each of these words was sent."""
    now = time.time_ns()
    return [(now - int(word)) / 1e6 for word in text.split()]


async def direct(url: str) -> list[float]:
    """Words read by whoever calls the provider itself."""
    late: list[float] = []
    async with (
        httpx.AsyncClient(timeout=30, trust_env=False) as client,
        client.stream("POST", url, json=ASKED) as response,
    ):
        async for line in response.aiter_lines():
            if '"content": "' in line:
                late += lateness(line.partition('"content": "')[2].partition('"')[0])
    return late


async def followed(settings: FleetSettings, *, at_once: int, rounds: int) -> list[float]:
    """Words read from the fleet, by so many consumers in one process."""
    late: list[float] = []
    async with AsyncFleet(settings) as fleet:

        async def follow(job: Job) -> None:
            handle = (await fleet.submit_many([job]))[0]
            async for event in handle.stream(timeout=120):
                late.extend(lateness(event.text))

        for number in range(rounds):
            await asyncio.gather(*(follow(job) for job in jobs(at_once, f"{at_once}.{number}", stream=True)))
    return late


def late_table(upstream: str) -> str:
    """The first table."""
    url = f"{upstream}/{WORDS}/{EVERY_MS}/v1/chat/completions"

    async def directly() -> list[float]:
        return [late for _ in range(ANSWERS) for late in await direct(url)]

    found = {"direct, one answer at a time": asyncio.run(directly())}
    with fleet_of(upstream, words=WORDS, every_ms=EVERY_MS) as (settings, _server):
        for at_once in (1, AT_ONCE):
            rounds = ANSWERS if at_once == 1 else 3
            late = asyncio.run(followed(settings, at_once=at_once, rounds=rounds))
            found[f"through the fleet, {at_once} at once"] = late
    rows = [["read", "words", "median, ms", "p99, ms"]]
    for name, late in found.items():
        p99 = statistics.quantiles(late, n=100)[-1]
        rows.append([name, f"{len(late)}", f"{statistics.median(late):.1f}", f"{p99:.1f}"])
    return table(f"From the provider's word to the producer ({WORDS} words, {EVERY_MS} ms apart)", rows)


async def rate(settings: FleetSettings, server: Valkey, *, stream: bool, follows: bool) -> float:
    """Jobs per second."""
    async with AsyncFleet(settings) as fleet:
        handles = await fleet.submit_many(jobs(JOBS, f"{stream}{follows}", stream=stream))

        async def end(handle: object) -> None:
            async for _event in handle.stream(timeout=180):  # type: ignore[attr-defined]
                pass

        await asyncio.gather(*(end(one) if follows else one.wait(180) for one in handles))
        with blocking(server) as client:
            return rate_of(client, [str(one.job_id) for one in handles])


def rate_table(upstream: str) -> str:
    """The second table: three ways by turns on one fleet."""
    ways = {"not streamed": (False, False), "streamed": (True, False), "streamed and followed": (True, True)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    with fleet_of(upstream, words=WORDS, every_ms=5) as (settings, server):
        asyncio.run(rate(settings, server, stream=False, follows=False))
        for turn in range(3):
            for name, (stream, follows) in list(ways.items())[:: -1 if turn % 2 else 1]:
                found[name].append(asyncio.run(rate(settings, server, stream=stream, follows=follows)))
    base = statistics.median(found["not streamed"])
    rows = [["jobs", "a second", "÷ not streamed"]]
    for name, rates in found.items():
        rows.append([name, f"{statistics.median(rates):.0f}", f"{statistics.median(rates) / base:.2f}"])
    return table(f"{JOBS} jobs of {WORDS} words, {SLOTS} slots, one worker (median of 3)", rows)


def run() -> str:
    """Both tables."""
    with stamped_upstream() as upstream:
        return late_table(upstream) + "\n" + rate_table(upstream)


if __name__ == "__main__":
    print(run())
