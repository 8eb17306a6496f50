"""Ten agents resubmit the same failing job as fast as they can for a minute: calls, cost, and what others notice.

The agents run at the lowest priority of the machine, for in life they are elsewhere: what is measured is the fleet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
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
OTHERS = "another tenant's"
# as routing.yaml's smallest tier has them
LIMITS = "concurrency: 4, requests_per_min: 6000"


@dataclass
class Noticed:
    """What the calm tenant's jobs took, in ms from their put to their end, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    def ms(self, share: float) -> float:
        """The time that this share of the jobs does not exceed: the median of the rounds."""
        return statistics.median(percentile(took, share) for took in self.rounds)


@dataclass
class Storm:
    """What the agents got, and what was called and billed for them."""

    ends: Counter[str] = field(default_factory=Counter)
    began_s: float = field(default_factory=time.monotonic)

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
def worker(server: Valkey, twin: Twin, folder: Path, ledger_url: str) -> Iterator[None]:
    """One worker with every step on; the stormy tenant has ten retries a minute and a day's budget."""
    caps = f"retries_per_min: {PER_MIN}, daily_budget_usd: {BUDGET_USD}, {LIMITS}"
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
    with process(command, environ, folder / "worker.log"):
        yield


def measure() -> tuple[Noticed, Noticed, Storm, list[dict[str, Any]]]:
    """Rounds without and with the storm by turns; the storm goes on for a minute in all."""
    quiet, stormy = Noticed(), Noticed()
    with lane_valkey() as server, scratch() as folder, open_twin(folder) as twin:
        rules = [{"match": {"contains": FAILING}, "status": 500, "bill": True}, {"latency_ms": ANSWER_MS}]
        behave(twin, rules)
        settings = FleetSettings(broker_url=server.broker_url)
        with database("SQLite", folder) as ledger_url, worker(server, twin, folder, ledger_url):
            asyncio.run(calm(settings, for_s=3))
            storm = Storm()
            storm.ends.update(asyncio.run(resubmit_once(settings)))
            for _ in range(ROUNDS):
                for_s = SECONDS / ROUNDS
                quiet.rounds.append(asyncio.run(calm(settings, for_s=for_s)))
                stormy.rounds.append(calm_beside_a_storm(settings, storm, for_s=for_s))
            return quiet, stormy, storm, calls(twin)


def calm_beside_a_storm(settings: FleetSettings, storm: Storm, *, for_s: float) -> list[float]:
    """One round in which the agents do what they do."""
    arguments = ("agents", settings.broker_url, str(for_s))
    command = ["nice", "-n", "19", *python("benchmarks.retry_storm", *arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agents:
        took = asyncio.run(calm(settings, for_s=for_s))
        said, _ = agents.communicate(timeout=60)
    storm.ends.update(json.loads(said))
    return took


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
    """The table."""
    quiet, stormy, storm, failed = measure()
    cap = storm.cap()
    cost = sum(call["cost_pico"] for call in failed) / 1e12
    refused = storm.ends["retry_cap"]
    ratio = stormy.ms(0.99) / quiet.ms(0.99)
    rows = [
        ["figure", "found", "must"],
        ["jobs that the agents submitted", f"{sum(storm.ends.values()):,}", ""],
        ["of them refused as retry_cap", f"{refused:,}", ""],
        ["upstream calls", str(len(failed)), f"≤ 1 + {cap}"],
        ["cost, USD (each failure is billed)", f"{cost:.6f}", f"≤ {BUDGET_USD}"],
        [
            f"{OTHERS} median, ms, without and with the storm",
            f"{quiet.ms(0.5):.0f}, {stormy.ms(0.5):.0f}",
            "",
        ],
        [
            f"{OTHERS} p99, ms, likewise",
            f"{quiet.ms(0.99):.0f}, {stormy.ms(0.99):.0f} ({ratio:.2f} ×)",
            "≤ 1.3 ×",
        ],
    ]
    title = f"{AGENTS} agents resubmit the same failing job for {SECONDS} s, {PER_MIN} retries a minute"
    return table(title, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["agents"]:
        print(
            json.dumps(asyncio.run(resubmit(FleetSettings(broker_url=sys.argv[2]), for_s=float(sys.argv[3]))))
        )
    else:
        print(run())
