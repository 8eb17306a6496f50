"""Calls held open at once, every step on: 2,000 in one worker process, 5,000 by all of the machine, and the memory.

Each job belongs to an agent run below another, with caps; budgets of the day and the run are on, each call is
journalled and has its deployment's slot. A call is open when it holds that slot: the number is Redis' own. The memory
of a process (RSS, the largest of them) is read after a first job, as the last call opens, and once the worker has
given back what its burst has left free, all calls still open.

`python -m benchmarks.held_calls [PROCESSES CALLS_IN_EACH [SECONDS_A_CALL]]`: a machine that opens them slowly needs
longer calls.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
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
from producer_sdk.errors import ResultTimeout
from producer_sdk.settings import FleetSettings
from tests.servers import Valkey
from worker.consumer import GIVE_BACK_EVERY_S
from worker.ledger.ledger import Ledger

SHAPES = ((1, 2_000), (2, 2_500))  # processes, calls in each
ANSWER_S = 120
WITHIN_S = 400.0
A_ROUND_S = GIVE_BACK_EVERY_S + 2
UNDER_WAY = "fairlane:{health}:deployment:local/twin-small:calls"
CAPS = "run_max_calls: 100000, run_max_depth: 9, run_max_seconds: 9000, run_max_repeats: 9000, run_budget_usd: 900"
ORDER = "It is order number"
MESSAGE = f"My card has not arrived yet, it has been two weeks. Where is it? {ORDER}"


@dataclass(frozen=True)
class Held:
    """What was reached: calls open at once, and the most memory of a worker, in MB, at three times."""

    calls: int
    idle_mb: float
    open_mb: float
    later_mb: float
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

        def memory() -> float:
            return max(rss_mb(child.pid) for child in workers)

        idle_mb = memory()
        handles = fleet.submit_many(jobs(processes * each))
        most, open_mb = _most_open(client, processes * each, memory)
        time.sleep(A_ROUND_S)
        later_mb = memory()
        succeeded = 0
        with contextlib.suppress(ResultTimeout):  # then fewer were answered: the table says how many
            for handle in fleet.as_completed(handles, timeout=WITHIN_S):
                succeeded += handle.wait(WITHIN_S).status == "succeeded"
    return Held(most, idle_mb, open_mb, later_mb, succeeded)


def _command(slots: int) -> list[str]:
    """As `worker.app.command` starts a worker: without what `celery` loads beside."""
    command = python("benchmarks.bench_worker", "worker", "--pool", "custom", "-c", str(slots))
    return [*command, "-l", "WARNING", "--without-gossip", "--without-mingle"]


def _most_open(client: redis.Redis, wanted: int, memory: Callable[[], float]) -> tuple[int, float]:
    """The most calls that were open at once, and the memory then."""
    most, then_mb, end = 0, memory(), time.monotonic() + WITHIN_S
    while most < wanted and time.monotonic() < end:
        now = int(client.zcard(UNDER_WAY))
        if now > most:
            most, then_mb = now, memory()
        elif now < most * 0.9:  # the first answers have come
            break
        time.sleep(0.25)
    return most, then_mb


def measure(processes: int, each: int, answer_s: int) -> list[str]:
    """A row of the table."""
    with lane_valkey() as server, scratch() as folder, open_twin(folder) as twin:
        twin.misbehave({"match": {"contains": ORDER}, "latency_ms": answer_s * 1000})
        found = held(server, f"{twin.url}/v1", folder, processes=processes, each=each)
    asked = processes * each
    most_mb = 200 if processes == 1 else 300
    return [
        str(processes),
        f"{found.calls:,} of {asked:,}",
        f"{found.idle_mb:.0f}",
        f"{found.open_mb:.0f}",
        f"{found.later_mb:.0f} (< {most_mb})",
        f"{(found.later_mb - found.idle_mb) * 1000 / each:.0f}",
        f"{found.succeeded:,}",
        f"{os.getloadavg()[0]:.1f}",
    ]


def run(shapes: Sequence[tuple[int, int]] = SHAPES, answer_s: int = ANSWER_S) -> str:
    """The table."""
    head = [
        "worker processes",
        "calls open at once",
        "RSS MB, idle",
        "RSS MB, all open",
        "RSS MB, a round later",
        "KB a call",
        "answered",
        "load average",
    ]
    rows = [measure(*shape, answer_s) for shape in shapes]
    return table(f"Calls of {answer_s} s held open, every step on", [head, *rows])


if __name__ == "__main__":
    asked = [int(one) for one in sys.argv[1:]]
    print(run([(asked[0], asked[1])], *asked[2:]) if asked else run())
