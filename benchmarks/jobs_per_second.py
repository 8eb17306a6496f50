"""Jobs per second of one worker process ÷ stock Celery 5.7 with its threads pool on the same Valkey."""

from __future__ import annotations

import tempfile
from pathlib import Path

import redis
from celery import Celery

from benchmarks.rig import median_of, process, python, rate_of, table, valkey, write_routing
from producer_sdk import Fleet
from producer_sdk.contract import Job
from producer_sdk.settings import FleetSettings
from tests.servers import Valkey
from worker.ledger.ledger import Ledger

JOBS, RUNS = 3000, 3
MESSAGE = "My card has not arrived yet, it has been two weeks. Where is it?"


def fairlane(server: Valkey, kind: str, folder: Path) -> float:
    """One worker process, every job already waiting in two tenants' lanes."""
    client = redis.Redis(unix_socket_path=str(server.socket))
    client.flushall()
    ledger = f"sqlite:///{folder / 'ledger.sqlite'}"
    Ledger(ledger).migrate()
    environ = {
        "BENCH": kind,
        "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
        "FAIRLANE_BROKER_URL": server.broker_url,
        "FAIRLANE_LEDGER_URL": ledger,
        "FAIRLANE_ROUTING": str(write_routing(folder)),
        "FAIRLANE_HOME": str(folder),
        "FAIRLANE_LOCAL_URL": "http://127.0.0.1:1/v1",
    }
    with Fleet(FleetSettings(broker_url=server.broker_url)) as fleet:
        jobs = [
            Job(
                tenant=("acme", "globex")[n % 2],
                task="classify_intent",
                messages=[{"role": "user", "content": f"{MESSAGE} {n}"}],
                params={"max_output_tokens": 16},
            )
            for n in range(JOBS)
        ]
        fleet.submit_many(jobs)
        command = python("celery", "-A", "benchmarks.bench_worker", "worker", "--pool", "custom", "-c", "200")
        command += ["-l", "WARNING", "--without-gossip", "--without-mingle"]
        with process(command, environ, folder / "worker.log"):
            rate = rate_of(client, [str(job.job_id) for job in jobs])
    client.close()
    return rate


def stock(server: Valkey, folder: Path) -> float:
    """Stock Celery, -P threads -c 8, results on, every job already waiting."""
    client = redis.Redis(unix_socket_path=str(server.socket))
    client.flushall()
    backend = server.broker_url
    app = Celery("stock", broker=server.broker_url, backend=backend)
    message = {"messages": [{"role": "user", "content": MESSAGE}]}
    ids = [str(app.send_task("stock.noop", ({"job_id": str(n), **message},)).id) for n in range(JOBS)]
    app.close()
    environ = {"STOCK_BROKER": server.broker_url, "STOCK_BACKEND": backend}
    command = python(
        "celery", "-A", "benchmarks.stock_app", "worker", "-P", "threads", "-c", "8", "-l", "WARNING"
    )
    command += ["-E", "--without-gossip", "--without-mingle"]
    with process(command, environ, folder / "stock.log"):
        rate = rate_of(client, ids)
    client.close()
    return rate


def run() -> str:
    """The table for both fsync modes."""
    rows = [
        [
            "appendfsync",
            "stock noop/s",
            "lanes noop/s",
            "÷ stock (≥ 1.0)",
            "whole pipeline + ledger /s",
            "÷ stock (≥ 0.5)",
        ]
    ]
    for fsync in ("everysec", "always"):
        with valkey(fsync) as server:
            base = median_of(RUNS, lambda s=server: stock(s, _folder()))
            noop = median_of(RUNS, lambda s=server: fairlane(s, "noop", _folder()))
            whole = median_of(RUNS, lambda s=server: fairlane(s, "pipeline", _folder()))
        rows.append(
            [fsync, f"{base:.0f}", f"{noop:.0f}", f"{noop / base:.2f}", f"{whole:.0f}", f"{whole / base:.2f}"]
        )
    return table(f"Jobs per second of one worker process ({JOBS} jobs, median of {RUNS})", rows)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fl-bench-"))


if __name__ == "__main__":
    print(run())
