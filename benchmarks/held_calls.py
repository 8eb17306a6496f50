"""Calls held open at once, every step on: 2,000 in one worker process, 5,000 by all of the machine, and the memory.

Each job belongs to an agent run below another, with caps; budgets of the day and the run are on, each call is
journalled and has its deployment's slot. A call is open when it holds that slot: the number is Redis' own.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.lane_rig import blocking, lane_valkey
from benchmarks.money_rig import scratch
from benchmarks.rig import ROUTING, process, python, rss_mb, table
from benchmarks.twin import open_twin
from producer_sdk import Fleet
from producer_sdk.contract import Job
from producer_sdk.settings import FleetSettings
from tests.servers import Valkey
from worker.ledger.ledger import Ledger

SHAPES = ((1, 2_000), (2, 2_500))  # processes, calls in each
ANSWER_S = 120
WITHIN_S = 400.0
UNDER_WAY = "fairlane:{health}:deployment:local/twin-small:calls"
CAPS = "run_max_calls: 100000, run_max_depth: 9, run_max_seconds: 9000, run_max_repeats: 9000, run_budget_usd: 900"
ORDER = "It is order number"
MESSAGE = f"My card has not arrived yet, it has been two weeks. Where is it? {ORDER}"


@dataclass(frozen=True)
class Held:
    """What was reached: calls open at once, and the memory of each worker, in MB, before and with them."""

    calls: int
    idle_mb: list[float]
    held_mb: list[float]
    succeeded: int


def routing_in(folder: Path) -> Path:
    """The benchmarks' routing with caps on runs, and time enough for a call."""
    text = ROUTING.replace("concurrency: 100000", f"concurrency: 100000, {CAPS}")
    text = text.replace("default: fast-small}", "default: fast-small, max_latency_ms: 600000}")
    path = folder / "routing.yaml"
    path.write_text(text)
    return path


def jobs(count: int) -> list[Job]:
    """Two tenants' jobs, ten to a run, the runs below one."""
    return [
        Job(
            tenant=("acme", "globex")[n % 2],
            task="classify_intent",
            messages=[{"role": "user", "content": f"{MESSAGE} {n}."}],
            params={"max_output_tokens": 16},
            run_id=f"run-{n // 20}",
            parent_run_id="whole",
            depth=1,
        )
        for n in range(count)
    ]


def held(server: Valkey, url: str, folder: Path, *, processes: int, each: int) -> Held:
    """Put as many jobs as there are slots, and look once all of their calls are open."""
    ledger = f"sqlite:///{folder / 'ledger.sqlite'}"
    Ledger(ledger).migrate()
    environ = {
        "BENCH": "calls",
        "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
        "FAIRLANE_BROKER_URL": server.broker_url,
        "FAIRLANE_LEDGER_URL": ledger,
        "FAIRLANE_ROUTING": str(routing_in(folder)),
        "FAIRLANE_HOME": str(folder),
        "FAIRLANE_LOCAL_URL": url,
        "FAIRLANE_SLOTS": str(each),
        "FAIRLANE_SOFT_LIMIT_S": "900",
        "FAIRLANE_HARD_LIMIT_S": "930",
    }
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(blocking(server))
        workers = [
            stack.enter_context(
                process(_command(each), environ | {"FAIRLANE_WORKER_NAME": name}, folder / name)
            )
            for name in (f"w{number}" for number in range(processes))
        ]
        fleet = stack.enter_context(Fleet(FleetSettings(broker_url=server.broker_url)))
        fleet.run(tenant="acme", task="classify_intent", messages="Are you there?", timeout=120)
        idle = [rss_mb(child.pid) for child in workers]
        handles = fleet.submit_many(jobs(processes * each))
        most, memory = _most_open(client, processes * each, lambda: [rss_mb(child.pid) for child in workers])
        ends = Counter(
            handle.wait(WITHIN_S).status for handle in fleet.as_completed(handles, timeout=WITHIN_S)
        )
    return Held(most, idle, memory, ends["succeeded"])


def _command(slots: int) -> list[str]:
    command = python(
        "celery", "-A", "benchmarks.bench_worker", "worker", "--pool", "custom", "-c", str(slots)
    )
    return [*command, "-l", "WARNING", "--without-gossip", "--without-mingle"]


def _most_open(
    client: redis.Redis, wanted: int, measure: Callable[[], list[float]]
) -> tuple[int, list[float]]:
    """The most calls that were open at once, and the memory then."""
    most, memory, end = 0, measure(), time.monotonic() + WITHIN_S
    while most < wanted and time.monotonic() < end:
        now = int(client.zcard(UNDER_WAY))
        if now > most:
            most, memory = now, measure()
        elif now < most * 0.9:  # the first answers have come
            break
        time.sleep(0.25)
    return most, measure() if most == wanted else memory


def measure(processes: int, each: int) -> list[str]:
    """A row of the table."""
    with lane_valkey() as server, scratch() as folder, open_twin(folder) as twin:
        twin.misbehave({"match": {"contains": ORDER}, "latency_ms": ANSWER_S * 1000})
        found = held(server, f"{twin.url}/v1", folder, processes=processes, each=each)
    asked = processes * each
    most_mb = 200 if processes == 1 else 300
    return [
        str(processes),
        f"{found.calls:,} of {asked:,}",
        f"{max(found.idle_mb):.0f}",
        f"{max(found.held_mb):.0f} (< {most_mb})",
        f"{(max(found.held_mb) - max(found.idle_mb)) * 1000 / each:.0f}",
        f"{found.succeeded:,}",
    ]


def run(shapes: Sequence[tuple[int, int]] = SHAPES) -> str:
    """The table."""
    head = [
        "worker processes",
        "calls open at once",
        "RSS MB, idle",
        "RSS MB, all open",
        "KB a call",
        "answered",
    ]
    return table(
        f"Calls of {ANSWER_S} s held open, every step on", [head, *(measure(*shape) for shape in shapes)]
    )


if __name__ == "__main__":
    print(run([(int(sys.argv[1]), int(sys.argv[2]))] if sys.argv[1:] else SHAPES))
