"""HTTP client CPU a call with 1,000 calls open: ours ÷ httpx over aiohttp alone, each reading the whole body.

Three children of this process send the same request to the same server, by turns. "alone": httpx with the aiohttp
transport as it comes, its limit of connections raised. "client": what `open_client` builds, its answer read by
`body.pieces`; the must is this ratio, run by run. "step", for information: the whole step that calls, with its events,
its JSON, its price and its Answer; the difference to "client" is told a token.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from benchmarks.money_rig import scratch
from benchmarks.rig import python, table, write_routing
from benchmarks.twin import open_twin
from producer_sdk.contract import Job, Message
from producer_sdk.settings import FleetSettings
from worker.job_run import Answer, Attempt, JobRun, Lease, PlannedCall
from worker.providers.body import pieces
from worker.providers.client import allow_open_files, open_client
from worker.providers.openai import OpenAI
from worker.providers.reply import Request
from worker.providers.step import CallProvider
from worker.rate_card import RateCard
from worker.routing_load import load
from worker.settings import WorkerSettings

OPEN, ROUNDS, RUNS = 1_000, 3, 5
ANSWER_MS = 3_000
TOKENS = 60
MOST = 1.2
Call = Callable[[], Awaitable[object]]


def planned(routing_path: Path) -> tuple[JobRun, PlannedCall]:
    """A job of two messages, on the benchmarks' one deployment."""
    routing = load(routing_path)
    deployment = next(iter(routing.deployments().values()))
    text = "My card has not arrived yet, it has been two weeks. Where is it?"
    job = Job(tenant="acme", task="classify_intent", messages=[Message(role="user", content=text)])
    job_run = JobRun(job=job, lease=Lease("tag", confirmed_until=float("inf")), routing=routing)
    job_run.messages, job_run.max_output_tokens = tuple(job.messages), 256
    card = RateCard.flat(deployment.model, "bench", 150_000, 600_000, 15_000, 150_000)
    return job_run, PlannedCall(deployment, "fast-small", card, 1_000)


def settings_of(url: str, routing_path: Path) -> WorkerSettings:
    """A worker's settings; nothing of its fleet is asked."""
    return WorkerSettings(
        fleet=FleetSettings(broker_url="redis://unused"),
        ledger_url="",
        routing_path=routing_path,
        home=routing_path.parent,
        worker_name="bench",
        local_url=url,
    )


def request_of(url: str, routing_path: Path) -> Request:
    """The request that every child sends."""
    job_run, call = planned(routing_path)
    request = OpenAI().request(Attempt(job_run, call, number=1, timeout_s=120), base_url=url, key=None)
    request.headers["content-type"] = "application/json"
    return request


async def step(url: str, routing_path: Path) -> float:
    """Seconds of CPU a call of the step that calls: client, reader and price."""
    job_run, call = planned(routing_path)
    async with open_client(settings_of(url, routing_path)) as client:
        provider = CallProvider(client=client, keys={}, local_url=url)

        async def one() -> object:
            attempt = Attempt(job_run, call, number=1, timeout_s=120)
            return await provider.run(attempt, _no_more)

        return await cpu_a_call(one)


async def client(url: str, routing_path: Path) -> float:
    """Seconds of CPU a call of the worker's client, which reads and forgets."""
    request = request_of(url, routing_path)
    async with open_client(settings_of(url, routing_path)) as http:

        async def one() -> None:
            built = http.build_request("POST", request.url, content=request.body, headers=request.headers)
            response = await http.send(built, stream=True)
            async for _piece in pieces(response):
                pass
            await response.aclose()
            assert response.status_code == 200

        return await cpu_a_call(one)


async def _no_more(_attempt: Attempt) -> Answer:
    raise AssertionError("the call is the last step")


async def alone(url: str, routing_path: Path) -> float:
    """Seconds of CPU a call of httpx over aiohttp, which reads and forgets."""
    request = request_of(url, routing_path)

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=OPEN))

    timeout = httpx.Timeout(120, pool=None)
    async with httpx.AsyncClient(transport=AiohttpTransport(client=session), timeout=timeout) as http:

        async def one() -> None:
            sent = http.stream("POST", request.url, content=request.body, headers=request.headers)
            async with sent as response:
                async for _chunk in response.aiter_bytes():
                    pass
                assert response.status_code == 200

        return await cpu_a_call(one)


async def cpu_a_call(one: Call) -> float:
    """CPU seconds of this process a call, many of which are open at once; a first round is not counted."""
    allow_open_files(OPEN + 256)
    await asyncio.gather(*(one() for _ in range(OPEN)))

    async def again() -> None:
        for _ in range(ROUNDS):
            await one()

    began = time.process_time()
    await asyncio.gather(*(again() for _ in range(OPEN)))
    return (time.process_time() - began) / (ROUNDS * OPEN)


def measured(kind: str, url: str, routing_path: Path) -> float:
    """Milliseconds of CPU a call, in a process of its own."""
    command = python("benchmarks.client_cpu", kind, url, str(routing_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return float(done.stdout) * 1000


def run() -> str:
    """The table."""
    with scratch() as folder, open_twin(folder) as twin:
        twin.misbehave({"latency_ms": ANSWER_MS, "output_tokens": TOKENS})
        routing_path, url = write_routing(folder), f"{twin.url}/v1"
        found = [[measured(kind, url, routing_path) for kind in KINDS] for _ in range(RUNS)]
    of_step, of_client, bare = (statistics.median(column) for column in zip(*found, strict=True))
    rows = [
        ["what", "CPU ms a call", f"÷ alone (client: ≤ {MOST})"],
        ["client and body", f"{of_client:.3f}", f"{statistics.median(row[1] / row[2] for row in found):.2f}"],
        ["httpx over aiohttp alone", f"{bare:.3f}", "1"],
        [
            "step: with reader and price",
            f"{of_step:.3f}",
            f"{statistics.median(row[0] / row[2] for row in found):.2f}",
        ],
        ["of it the reader, µs a token", f"{(of_step - of_client) * 1000 / TOKENS:.1f}", ""],
    ]
    return table(f"CPU of the HTTP client at {OPEN:,} open calls of {TOKENS} tokens (median of {RUNS})", rows)


KINDS = {"step": step, "client": client, "alone": alone}

if __name__ == "__main__":
    if sys.argv[1:]:
        print(asyncio.run(KINDS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
    else:
        print(run())
