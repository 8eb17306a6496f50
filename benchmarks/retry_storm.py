"""Ten agents resubmit the same failing job as fast as they can for a minute: calls, cost, and what others notice.

The agents run at the lowest priority of the machine, for in life they are elsewhere. What their CPU alone does to the
others is measured too: rounds in which a process that submits nothing burns as much of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.lane_rig import lane_valkey, percentile
from benchmarks.money_rig import database, scratch
from benchmarks.rig import ROUTING, process, python, table
from benchmarks.twin import Twin, open_twin
from producer_sdk import AsyncFleet, JobEnded
from producer_sdk.settings import FleetSettings
from tests.servers import Valkey

SECONDS, AGENTS, ROUNDS = 60, 10, 3
EVERY_S, ANSWER_MS = 0.05, 200
PER_MIN, BUDGET_USD = 10, 0.05
FAILING = "[what always fails]"
STORMY, CALM = "acme", "globex"
TASK = "classify_intent"
BEGUN = b"begun\n"
OTHERS = "another tenant's"
LIMITS = {
    "without limits": "",
    "with the limits of routing.yaml's smallest tier": ", concurrency: 4, requests_per_min: 6000",
}


@dataclass
class Noticed:
    """What the calm tenant's jobs took, in ms from their put to their end, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    def ms(self, share: float) -> float:
        """The time that this share of the jobs does not exceed: the median of the rounds."""
        return statistics.median(percentile(took, share) for took in self.rounds)


@dataclass
class Storm:
    """What the agents got, what was called and billed for them, and what CPU they and the worker took."""

    ends: Counter[str] = field(default_factory=Counter)
    began_s: float = field(default_factory=time.monotonic)
    agents_cpu_s: list[float] = field(default_factory=list)
    worker_cpu_s: dict[str, float] = field(default_factory=lambda: {"without": 0.0, "with": 0.0})

    def cap(self) -> int:
        """The retries that the tenant has had by now: what was there from the start, and what came back since."""
        return PER_MIN + math.ceil(PER_MIN * (time.monotonic() - self.began_s) / 60)


async def resubmit(settings: FleetSettings, *, for_s: float) -> Counter[str]:
    """Ten agents, each of which submits the same job again as soon as it has failed."""
    ends: Counter[str] = Counter()
    async with AsyncFleet(settings) as fleet:
        until_s = time.monotonic() + for_s

        async def agent() -> None:
            while time.monotonic() < until_s:
                try:
                    await fleet.run(tenant=STORMY, task=TASK, messages=FAILING, timeout=30)
                except JobEnded as ended:
                    ends[str(ended.error.code)] += 1

        await asyncio.gather(*(agent() for _ in range(AGENTS)))
    return ends


async def calm(settings: FleetSettings, *, for_s: float) -> list[float]:
    """Another tenant's jobs, one every 50 ms whatever became of the one before."""
    took: list[float] = []

    async def ask(number: int) -> None:
        text = f"Where is parcel {time.time_ns()} {number}?"
        result = await fleet.run(tenant=CALM, task=TASK, messages=text, timeout=30)
        took.append(result.queue_ms + result.latency_ms)

    async with AsyncFleet(settings) as fleet:
        asked = []
        for number in range(int(for_s / EVERY_S)):
            asked.append(asyncio.create_task(ask(number)))
            await asyncio.sleep(EVERY_S)
        await asyncio.gather(*asked)
    return took


@contextlib.contextmanager
def worker(
    server: Valkey, twin: Twin, folder: Path, ledger_url: str, limits: str
) -> Iterator[subprocess.Popen[bytes]]:
    """One worker with every step on; the stormy tenant has ten retries a minute and a day's budget."""
    caps = f"retries_per_min: {PER_MIN}, daily_budget_usd: {BUDGET_USD}{limits}"
    routing = folder / "routing.yaml"
    routing.write_text(ROUTING.replace(f"{STORMY}: {{tier: bench}}", f"{STORMY}: {{tier: bench, {caps}}}"))
    environ = {
        "BENCH": "calls",
        "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
        "FAIRLANE_BROKER_URL": server.broker_url,
        "FAIRLANE_LEDGER_URL": ledger_url,
        "FAIRLANE_ROUTING": str(routing),
        "FAIRLANE_HOME": str(folder),
        "FAIRLANE_LOCAL_URL": twin.url,
    }
    command = python("celery", "-A", "benchmarks.bench_worker", "worker", "--pool", "custom", "-c", "200")
    command += ["-l", "WARNING", "--without-gossip", "--without-mingle"]
    with process(command, environ, folder / "worker.log") as child:
        yield child


def cpu_s(pid: int) -> float:
    """The CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def burn(share: float, *, for_s: float) -> None:
    """Take this share of a core, and nothing else."""
    began_s, took_s = time.monotonic(), time.process_time()
    while (passed_s := time.monotonic() - began_s) < for_s:
        if time.process_time() - took_s < share * passed_s:
            sum(range(10_000))
        else:
            time.sleep(0.002)


def measure(limits: str) -> tuple[dict[str, Noticed], Storm, list[dict[str, Any]]]:
    """Rounds without the storm, with it and beside its CPU alone, by turns; the storm goes on for a minute in all."""
    noticed = {kind: Noticed() for kind in ("without", "with", "cpu")}
    with lane_valkey() as server, scratch() as folder, open_twin(folder) as twin:
        rules = [{"match": {"contains": FAILING}, "status": 500, "bill": True}, {"latency_ms": ANSWER_MS}]
        behave(twin, rules)
        settings = FleetSettings(broker_url=server.broker_url)
        with (
            database("SQLite", folder) as ledger_url,
            worker(server, twin, folder, ledger_url, limits) as child,
        ):
            asyncio.run(calm(settings, for_s=3))
            storm = Storm()
            storm.ends.update(asyncio.run(resubmit_once(settings)))
            for _ in range(ROUNDS):
                for kind, those in noticed.items():
                    before_s = cpu_s(child.pid)
                    those.rounds.append(round_of(kind, settings, storm))
                    if kind in storm.worker_cpu_s:
                        storm.worker_cpu_s[kind] += cpu_s(child.pid) - before_s
            return noticed, storm, calls(twin)


def round_of(kind: str, settings: FleetSettings, storm: Storm) -> list[float]:
    """What the calm tenant noticed in one round."""
    for_s = SECONDS / ROUNDS
    if kind == "without":
        return asyncio.run(calm(settings, for_s=for_s))
    if kind == "cpu":
        took, _said, _cpu_s = beside("burn", str(storm.agents_cpu_s[-1] / for_s), settings, for_s=for_s)
        return took
    took, said, agents_cpu_s = beside("agents", settings.broker_url, settings, for_s=for_s)
    storm.ends.update(json.loads(said))
    storm.agents_cpu_s.append(agents_cpu_s)
    return took


def beside(
    what: str, argument: str, settings: FleetSettings, *, for_s: float
) -> tuple[list[float], bytes, float]:
    """The calm tenant's jobs beside another process; what that has printed, and its CPU in seconds."""
    command = ["nice", "-n", "19", *python("benchmarks.retry_storm", what, argument, str(for_s))]
    before_s = children_cpu_s()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == BEGUN
        took = asyncio.run(calm(settings, for_s=for_s))
        said, _ = child.communicate(timeout=60)
    return took, said, children_cpu_s() - before_s


def children_cpu_s() -> float:
    """The CPU of the children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


async def resubmit_once(settings: FleetSettings) -> Counter[str]:
    """The job fails for the first time."""
    async with AsyncFleet(settings) as fleet:
        try:
            await fleet.run(tenant=STORMY, task=TASK, messages=FAILING, timeout=30)
        except JobEnded as ended:
            return Counter([str(ended.error.code)])
    raise AssertionError("what always fails was answered")


def behave(twin: Twin, rules: list[dict[str, Any]]) -> None:
    """What the twin does from now on."""
    request = urllib.request.Request(
        f"{twin.url}/twin/behave", json.dumps(rules).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


def calls(twin: Twin) -> list[dict[str, Any]]:
    """The twin's books of the calls that failed."""
    with urllib.request.urlopen(f"{twin.url}/twin/books", timeout=10) as reply:
        found: list[dict[str, Any]] = json.loads(reply.read())["calls"]
    return [call for call in found if call["status"] == 500]


def run() -> str:
    """A table for each of the tenant's limits."""
    return "\n".join(found(name, *measure(limits)) for name, limits in LIMITS.items())


def found(name: str, noticed: dict[str, Noticed], storm: Storm, failed: list[dict[str, Any]]) -> str:
    """The table."""
    quiet, stormy, beside_cpu = (noticed[kind] for kind in ("without", "with", "cpu"))
    cap = storm.cap()
    cost = sum(call["cost_pico"] for call in failed) / 1e12
    more_cpu_s = storm.worker_cpu_s["with"] - storm.worker_cpu_s["without"]
    medians = ", ".join(f"{one.ms(0.5):.0f}" for one in (quiet, stormy, beside_cpu))
    p99s = ", ".join(f"{one.ms(0.99):.0f}" for one in (quiet, stormy, beside_cpu))
    ratio = stormy.ms(0.99) / quiet.ms(0.99)
    rows = [
        ["figure", "found", "must"],
        ["jobs that the agents submitted", f"{sum(storm.ends.values()):,}", ""],
        ["of them refused as retry_cap", f"{storm.ends['retry_cap']:,}", ""],
        ["upstream calls", str(len(failed)), f"≤ 1 + {cap}"],
        ["cost, USD (each failure is billed)", f"{cost:.6f}", f"≤ {BUDGET_USD}"],
        ["CPU of the agents, of a core", f"{sum(storm.agents_cpu_s) / SECONDS:.2f}", ""],
        ["more CPU of the worker with the storm, of a core", f"{more_cpu_s / SECONDS:.2f}", ""],
        [f"{OTHERS} median, ms: without the storm, with it, beside its CPU alone", medians, ""],
        [f"{OTHERS} p99, ms, likewise", p99s, ""],
        [f"{OTHERS} p99 with the storm ÷ without", f"{ratio:.2f}", "≤ 1.3"],
        [
            f"{OTHERS} p99 with the storm ÷ beside its CPU alone",
            f"{stormy.ms(0.99) / beside_cpu.ms(0.99):.2f}",
            "",
        ],
    ]
    title = (
        f"{AGENTS} agents resubmit the same failing job for {SECONDS} s, {PER_MIN} retries a minute, {name}"
    )
    return table(title, rows)


def act(what: str, argument: str, for_s: str) -> None:
    """What a process beside the fleet does, once it has said that it begins."""
    print(BEGUN.decode(), end="", flush=True)
    if what == "burn":
        burn(float(argument), for_s=float(for_s))
    else:
        print(json.dumps(asyncio.run(resubmit(FleetSettings(broker_url=argument), for_s=float(for_s)))))


if __name__ == "__main__":
    if sys.argv[1:]:
        act(*sys.argv[1:])
    else:
        print(run())
