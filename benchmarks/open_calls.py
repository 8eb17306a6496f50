"""A thousand calls of ten seconds held open in one worker process: jobs/s ÷ the ideal of 100/s, and its memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import redis
from celery import Celery

from benchmarks.rig import process, python, rate_of, rss_mb, table, valkey, write_routing
from benchmarks.twin import open_twin
from producer_sdk import Fleet
from producer_sdk.contract import Job
from producer_sdk.settings import FleetSettings
from tests.servers import Valkey
from worker.ledger.ledger import Ledger

CALLS, SECONDS, JOBS = 1000, 10, 3000
IDEAL = CALLS / SECONDS


def fairlane(server: Valkey, url: str, folder: Path) -> tuple[float, float]:
    """One worker with a thousand slots, every step and the ledger on."""
    ledger = f"sqlite:///{folder / 'ledger.sqlite'}"
    Ledger(ledger).migrate()
    environ = {
        "BENCH": "calls",
        "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
        "FAIRLANE_BROKER_URL": server.broker_url,
        "FAIRLANE_LEDGER_URL": ledger,
        "FAIRLANE_ROUTING": str(write_routing(folder)),
        "FAIRLANE_HOME": str(folder),
        "FAIRLANE_LOCAL_URL": url,
        "FAIRLANE_SLOTS": str(CALLS),
    }
    with Fleet(FleetSettings(broker_url=server.broker_url)) as fleet:
        jobs = [
            Job(
                tenant="acme",
                task="classify_intent",
                messages=[{"role": "user", "content": f"Where is card {n}?"}],
            )
            for n in range(JOBS)
        ]
        fleet.submit_many(jobs)
    command = python(
        "celery", "-A", "benchmarks.bench_worker", "worker", "--pool", "custom", "-c", str(CALLS)
    )
    command += ["-l", "WARNING", "--without-gossip", "--without-mingle"]
    return _measured(server, command, environ, folder, [str(job.job_id) for job in jobs])


def stock(server: Valkey, url: str, folder: Path) -> tuple[float, float]:
    """Stock Celery with a thousand threads, one streamed call each, no ledger."""
    app = Celery("stock", broker=server.broker_url, backend=server.broker_url)
    message = {"messages": [{"role": "user", "content": "Where is my card?"}]}
    ids = [str(app.send_task("stock.call", ({"job_id": str(n), **message},)).id) for n in range(JOBS)]
    app.close()
    environ = {
        "STOCK_BROKER": server.broker_url,
        "STOCK_BACKEND": server.broker_url,
        "FAIRLANE_LOCAL_URL": url,
    }
    command = python(
        "celery", "-A", "benchmarks.stock_app", "worker", "-P", "threads", "-c", str(CALLS), "-l", "ERROR"
    )
    return _measured(server, [*command, "--without-gossip", "--without-mingle"], environ, folder, ids)


def _measured(
    server: Valkey, command: list[str], environ: dict[str, str], folder: Path, ids: list[str]
) -> tuple[float, float]:
    client = redis.Redis(unix_socket_path=str(server.socket))
    with process(command, environ, folder / "worker.log") as child:
        rate = rate_of(client, ids, within_s=300)
        memory = rss_mb(child.pid)
    client.close()
    # the first wave's results come ten seconds after its start: count that wave's time too
    return JOBS / ((JOBS - 1) / rate + SECONDS), memory


def run() -> str:
    """The table: this worker beside stock threads."""
    rows = [["worker", "jobs/s", "÷ ideal (≥ 0.8)", "RSS MB (< 200)"]]
    for name, measure in (("fairlane, whole pipeline", fairlane), ("stock -P threads -c 1000", stock)):
        folder = Path(tempfile.mkdtemp(prefix="fl-bench-"))
        with valkey("always") as server, open_twin(folder) as twin:
            twin.begin_anew(latency_ms=SECONDS * 1000)
            rate, memory = measure(server, f"{twin.url}/v1", folder)
        rows.append([name, f"{rate:.1f}", f"{rate / IDEAL:.2f}", f"{memory:.0f}"])
    return table(f"{CALLS} calls of {SECONDS} s held open in one process ({JOBS} jobs)", rows)


if __name__ == "__main__":
    print(run())
