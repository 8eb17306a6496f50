"""What an idle worker asks of Redis, and how soon an idle fleet begins a job that is put into it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from benchmarks.lane_rig import (
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
from producer_sdk.lanes import scripts
from tests.servers import Valkey, wait_until

WORKERS, SLOTS = 2, 50
IDLE_S, JOBS = 30.0, 150
ENOUGH = "ECHO enough"
VERB_OF = {script.sha: verb for verb, script in scripts.load_scripts("server").items()}


def asked_for(server: Valkey) -> Counter[str]:
    """The commands that clients sent in IDLE_S seconds, by MONITOR, without those of the scripts themselves."""

    def listen() -> Counter[str]:
        with blocking(server) as client, client.monitor() as monitor:
            heard = itertools.takewhile(lambda one: one["command"] != ENOUGH, monitor.listen())
            return Counter(named(one["command"]) for one in heard if one["client_type"] != "lua")

    with ThreadPoolExecutor(1) as threads, blocking(server) as client:
        listening = threads.submit(listen)
        time.sleep(IDLE_S)
        client.execute_command(*ENOUGH.split())
        return listening.result(10)


def named(command: str) -> str:
    """A lane script by its verb, any other command by its name."""
    name, *arguments = command.split(" ", 2)
    return VERB_OF.get(arguments[0], "another script") if name == "EVALSHA" else name


async def starts(server: Valkey) -> list[float]:
    """Milliseconds from just before each put until its handler began; nothing else is in the fleet."""
    jobs = list(entries(pattern("acme", Nap(20, 10)), JOBS))
    async with open_lanes(server) as (_client, lanes):
        await lanes.agree()
        asked = []
        for job in jobs:
            await asyncio.sleep(random.uniform(0.1, 0.3))
            asked.append(time.time())
            await fill(lanes, [job])
    with blocking(server) as client:
        ids = [job.job_id for job in jobs]
        wait_until(lambda: all(begun(client, ids)), what="every result")
        return [
            (one.began_s - put_s) * 1000 for one, put_s in zip(begun(client, ids), asked, strict=True) if one
        ]


def run() -> str:
    """The table for a fleet of two workers."""
    with lane_valkey() as server, contextlib.ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(nap_worker(server, slots=SLOTS))
        wait_for_workers(server, WORKERS)
        time.sleep(5)  # what they ask once, at their start
        counts = asked_for(server)
        waits = asyncio.run(starts(server))
    each = {name: count / IDLE_S / WORKERS for name, count in counts.most_common()}
    rows = [
        ["idle workers", "commands/s a worker (≤ 2)", "of which", "put → handler ms, median (< 20)", "p99"]
    ]
    parts = ", ".join(f"{name} {rate:.2f}" for name, rate in each.items())
    waited = [f"{statistics.median(waits):.1f}", f"{percentile(waits, 0.99):.1f}"]
    rows.append([str(WORKERS), f"{sum(each.values()):.2f}", parts, *waited])
    return table(
        f"An idle fleet: its commands in {IDLE_S:.0f} s (MONITOR), and the start of {JOBS} jobs", rows
    )


if __name__ == "__main__":
    print(run())
