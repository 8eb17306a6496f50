"""Jobs submitted per second: `Fleet.submit_many` ÷ stock Celery's `send_task` in a loop, on the same Valkey."""

from __future__ import annotations

import redis
from celery import Celery

from benchmarks.rig import median_of, table, timed, valkey
from producer_sdk import Fleet
from producer_sdk.contract import Job
from producer_sdk.settings import FleetSettings
from tests.servers import Valkey

JOBS, RUNS = 3000, 3
MESSAGE = "My card has not arrived yet, it has been two weeks. Where is it?"


def many(server: Valkey) -> float:
    """Building, packing and putting every job counts."""
    fleet = Fleet(FleetSettings(broker_url=server.broker_url))
    with fleet:
        seconds = timed(
            lambda: fleet.submit_many(
                Job(tenant="acme", task="classify_intent", messages=[{"role": "user", "content": MESSAGE}])
                for _ in range(JOBS)
            )
        )
    return JOBS / seconds


def one_by_one(server: Valkey) -> float:
    """send_task with the same message, one at a time, as Celery's users do."""
    app = Celery("stock", broker=server.broker_url)
    message = {
        "tenant": "acme",
        "task": "classify_intent",
        "messages": [{"role": "user", "content": MESSAGE}],
    }
    app.send_task("stock.noop", (message,))
    seconds = timed(lambda: [app.send_task("stock.noop", (message,)) for _ in range(JOBS)])
    app.close()
    return JOBS / seconds


def run() -> str:
    """The table for both fsync modes."""
    rows = [["appendfsync", "send_task/s", "submit_many/s", "÷ send_task (≥ 3)"]]
    for fsync in ("everysec", "always"):
        with valkey(fsync) as server:
            base = median_of(RUNS, lambda s=server: one_by_one(s))
            redis.Redis(unix_socket_path=str(server.socket)).flushall()
            ours = median_of(RUNS, lambda s=server: many(s))
        rows.append([fsync, f"{base:.0f}", f"{ours:.0f}", f"{ours / base:.1f}"])
    return table(f"Submitting {JOBS} jobs from one thread (median of {RUNS})", rows)


if __name__ == "__main__":
    print(run())
