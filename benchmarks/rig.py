"""What every benchmark needs: a Valkey of its own, worker processes, and rates read from the results themselves."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import redis

from tests.servers import Valkey, wait_until

ROUTING = """
providers:
  local: {dialect: openai, base_url: "http://127.0.0.1:1/v1", base_url_env: FAIRLANE_LOCAL_URL}
aliases:
  fast-small:
    - {provider: local, model: twin-small, context_tokens: 32000, max_output_tokens: 4096,
       price: {input: 0.15, output: 0.6, cache_read: 0.015, cache_write: 0.15}}
tasks:
  classify_intent: {default: fast-small}
tiers:
  bench: {max_output_tokens: 1024, daily_budget_usd: 1000000, concurrency: 100000}
tenants:
  acme: {tier: bench}
  globex: {tier: bench}
"""


@contextmanager
def valkey(fsync: str) -> Iterator[Valkey]:
    """A Valkey in a temporary folder with the given appendfsync."""
    with (
        tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as folder,
        Valkey(Path(folder), fsync=fsync) as server,
    ):
        yield server


@contextmanager
def process(
    command: Sequence[str], environ: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process, ended by its id."""
    with log.open("ab") as out:
        child = subprocess.Popen(command, env={**os.environ, **environ}, stdout=out, stderr=out)
    try:
        yield child
    finally:
        child.kill()
        child.wait(20)


def write_routing(folder: Path) -> Path:
    """The benchmarks' routing.yaml: two tenants without limits, one local deployment."""
    path = folder / "routing.yaml"
    path.write_text(ROUTING)
    return path


def rate_of(client: redis.Redis, ids: Sequence[str], *, within_s: float = 180.0) -> float:
    """Jobs per second from the first result to the last, by the results' own times."""
    keys = [f"celery-task-meta-{job_id}" for job_id in ids]
    wait_until(
        lambda: client.exists(*keys[-200:]) == len(keys[-200:]), within_s=within_s, what="the last results"
    )
    wait_until(lambda: _there(client, keys) == len(keys), within_s=30, what="every result")
    done = sorted(datetime.fromisoformat(meta["date_done"]) for meta in _metas(client, keys))
    return (len(done) - 1) / (done[-1] - done[0]).total_seconds()


def _there(client: redis.Redis, keys: Sequence[str]) -> int:
    return sum(client.exists(*keys[at : at + 500]) for at in range(0, len(keys), 500))


def _metas(client: redis.Redis, keys: Sequence[str]) -> Iterator[dict[str, str]]:
    for at in range(0, len(keys), 500):
        for value in client.mget(keys[at : at + 500]):
            meta = json.loads(value)
            assert meta["status"] == "SUCCESS", meta["status"]
            result = meta["result"]
            assert not isinstance(result, dict) or result["status"] == "succeeded", result["error"]
            yield meta


def median_of(runs: int, measure: Callable[[], float]) -> float:
    """The median of several runs: machines are shared and noisy."""
    return statistics.median(measure() for _ in range(runs))


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A markdown table with the first row as its head."""
    head, *body = rows
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body]) + "\n"


def python(module: str, *arguments: str) -> list[str]:
    """A command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def timed(act: Callable[[], object]) -> float:
    """Seconds that `act` takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
