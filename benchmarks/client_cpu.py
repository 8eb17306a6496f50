"""HTTP client CPU a call with 1,000 calls open: ours, from request to read answer, ÷ httpx over aiohttp alone.

Both run in children of this process against the same server, by turns. "Alone" is httpx with the aiohttp transport as
it comes, its limit of connections raised, posting the same body and forgetting the answer.
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
from worker.providers.client import allow_open_files, open_client
from worker.providers.openai import OpenAI
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


async def ours(url: str, routing_path: Path) -> float:
    """Seconds of CPU a call of the worker's client, its reader and its price."""
    fleet = FleetSettings(broker_url="redis://unused")
    settings = WorkerSettings(
        fleet=fleet,
        ledger_url="",
        routing_path=routing_path,
        home=routing_path.parent,
        worker_name="bench",
        local_url=url,
    )
    job_run, call = planned(routing_path)
    async with open_client(settings) as client:
        step = CallProvider(client=client, keys={}, local_url=url)

        async def one() -> object:
            attempt = Attempt(job_run, call, number=1, timeout_s=120)
            return await step.run(attempt, _no_more)

        return await cpu_a_call(one)


async def _no_more(_attempt: Attempt) -> Answer:
    raise AssertionError("the call is the last step")


async def alone(url: str, routing_path: Path) -> float:
    """Seconds of CPU a call of httpx over aiohttp, which reads and forgets."""
    job_run, call = planned(routing_path)
    attempt = Attempt(job_run, call, number=1, timeout_s=120)
    request = OpenAI().request(attempt, base_url=url, key=None)
    headers = {**request.headers, "content-type": "application/json"}

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=OPEN))

    timeout = httpx.Timeout(120, pool=None)
    async with httpx.AsyncClient(transport=AiohttpTransport(client=session), timeout=timeout) as client:

        async def one() -> object:
            async with client.stream("POST", request.url, content=request.body, headers=headers) as response:
                async for _chunk in response.aiter_bytes():
                    pass
                assert response.status_code == 200
            return None

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
        pairs = [[measured(kind, url, routing_path) for kind in KINDS] for _ in range(RUNS)]
    own, bare = (statistics.median(found) for found in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for mine, other in pairs)
    rows = [
        ["client", "CPU ms a call", f"÷ alone (≤ {MOST})"],
        ["ours: client, reader, price", f"{own:.3f}", f"{ratio:.2f}"],
        ["httpx over aiohttp alone", f"{bare:.3f}", "1"],
    ]
    return table(f"CPU of the HTTP client at {OPEN:,} open calls of {TOKENS} tokens (median of {RUNS})", rows)


KINDS = {"ours": ours, "alone": alone}

if __name__ == "__main__":
    if sys.argv[1:]:
        print(asyncio.run(KINDS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
    else:
        print(run())
