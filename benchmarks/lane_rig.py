"""What the benchmarks of the lanes need: many cheap entries, workers whose jobs nap, and when those began."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import redis.asyncio

from benchmarks.nap import Begun, Nap
from benchmarks.rig import process, python, write_routing
from producer_sdk.contract import Job
from producer_sdk.contract.envelope import LaneEntry, pack
from producer_sdk.lanes import LaneKeys, Lanes
from tests.servers import Valkey, scratch_folder, wait_until
from worker.ledger.ledger import Ledger

TTL_S = 3600
A_PIPELINE = 640
KEYS = LaneKeys("fairlane")


@contextmanager
def lane_valkey() -> Iterator[Valkey]:
    """A Valkey with appendfsync everysec, its files in memory; its log is not rewritten while something is measured."""
    with (
        tempfile.TemporaryDirectory(prefix="fl-", dir=scratch_folder()) as folder,
        Valkey(Path(folder), fsync="everysec") as server,
    ):
        with blocking(server) as client:
            client.config_set("auto-aof-rewrite-percentage", 0)
        yield server


def blocking(server: Valkey) -> redis.Redis:
    """A client that blocks."""
    return redis.Redis(unix_socket_path=str(server.socket))


@asynccontextmanager
async def open_lanes(server: Valkey) -> AsyncIterator[tuple[redis.asyncio.Redis, Lanes]]:
    """A connection of its own, and the lanes over it."""
    client = redis.asyncio.Redis(unix_socket_path=str(server.socket))
    try:
        yield client, Lanes(client)
    finally:
        await client.aclose()


def pattern(tenant: str, nap: Nap, *, padding: str = "") -> LaneEntry:
    """An entry to make many of, with its tokens estimated as they will be."""
    message = {"role": "user", "content": f"{nap.said()} {padding}"}
    entry = pack(Job.model_validate({"tenant": tenant, "task": "classify_intent", "messages": [message]}))
    tokens = nap.input_tokens + nap.output_tokens
    return replace(entry, tokens=tokens, cost=tokens + nap.output_tokens)


def entries(like: LaneEntry, count: int) -> Iterator[LaneEntry]:
    """The same job under as many ids, without the price of a model for each."""
    head, _, body = like.message.partition(b"\n")
    start = f"{secrets.token_hex(4)}-0000-7000-8000-"
    old_id, old_digest = like.job_id.encode(), like.digest.encode()
    for number in range(count):
        job_id = f"{start}{number:012x}"
        own_body = body.replace(old_id, job_id.encode())
        digest = hashlib.sha256(own_body).hexdigest()
        own_head = head.replace(old_id, job_id.encode()).replace(old_digest, digest.encode())
        yield replace(like, job_id=job_id, message=own_head + b"\n" + own_body, digest=digest)


async def fill(lanes: Lanes, jobs: Iterable[LaneEntry]) -> int:
    """Put every job; how many bytes their messages have. The server puts one part while the next is made."""
    rest = iter(jobs)

    async def put_parts() -> int:
        size = 0
        while part := list(itertools.islice(rest, A_PIPELINE)):
            outcomes = {reply.outcome for reply in await lanes.put(part, ttl_s=TTL_S)}
            assert outcomes == {"accepted"}, outcomes
            size += sum(len(entry.message) for entry in part)
        return size

    return sum(await asyncio.gather(put_parts(), put_parts()))


@contextmanager
def nap_worker(server: Valkey, *, slots: int, routing: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A worker process whose jobs nap; `routing` in place of the benchmarks' own routing.yaml."""
    with tempfile.TemporaryDirectory(prefix="fl-", dir=scratch_folder()) as name:
        folder = Path(name)
        path = write_routing(folder)
        if routing:
            path.write_text(routing)
        ledger = f"sqlite:///{folder / 'ledger.sqlite'}"
        Ledger(ledger).migrate()
        worker = f"bench-{secrets.token_hex(3)}-{os.getpid()}"
        environ = {
            "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
            "FAIRLANE_BROKER_URL": server.broker_url,
            "FAIRLANE_LEDGER_URL": ledger,
            "FAIRLANE_ROUTING": str(path),
            "FAIRLANE_HOME": str(folder),
            "FAIRLANE_LOCAL_URL": "http://127.0.0.1:1/v1",
            "FAIRLANE_SLOTS": str(slots),
            "FAIRLANE_WORKER_NAME": worker,
        }
        command = python("celery", "-A", "benchmarks.nap_worker", "worker", "--pool", "custom")
        command += ["-n", f"{worker}@%h", "-c", str(slots), "-l", "WARNING"]
        command += ["--without-gossip", "--without-mingle"]
        with process(command, environ, folder / "worker.log") as child:
            yield child


def wait_for_workers(server: Valkey, count: int) -> None:
    """Until so many workers listen to the lanes."""
    with blocking(server) as client:
        wait_until(
            lambda: client.pubsub_numsub(KEYS.wake)[0][1] == count, within_s=60, what="workers that listen"
        )


def begun(client: redis.Redis, ids: Sequence[str]) -> list[Begun | None]:
    """What these jobs' results say, in order; None for a job without a result yet."""
    found: list[Begun | None] = []
    for at in range(0, len(ids), 500):
        for value in client.mget([KEYS.result(job_id) for job_id in ids[at : at + 500]]):
            found.append(Begun.heard(json.loads(value)["result"]["text"]) if value else None)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
