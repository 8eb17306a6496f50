"""One process of `budget_concurrency`: a worker's whole pipeline, and a provider in it that bills less than it may.

Reads the number of a round from each line of its input, and prints what became of that round's jobs as a JSON line.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx

from producer_sdk.contract import GenerationParams, Job, Message
from worker.assembly import Assembly, assemble
from worker.errors import HandBack, RetryLater
from worker.job_run import JobRun, Lease
from worker.settings import WorkerSettings

JOBS_A_ROUND, SLOTS = 250, 50
INPUT_TOKENS, INPUT_PICO, OUTPUT_PICO = 20, 150_000, 600_000
LEAST_TOKENS, MOST_TOKENS, MOST_MARGIN = 10, 2_000, 3.0
NAP_S = (0.005, 0.03)


@dataclass(frozen=True)
class Size:
    """The tokens of an answer, and the most that was asked for."""

    tokens: int
    max_tokens: int

    @property
    def cost_pico(self) -> int:
        """What the provider bills."""
        return INPUT_TOKENS * INPUT_PICO + self.tokens * OUTPUT_PICO


def sizes(process: int, number: int) -> Iterator[Size]:
    """The jobs of a process in a round: small ones are as frequent as large ones, in powers of ten."""
    chance = random.Random(f"{process} {number}")
    for _ in range(JOBS_A_ROUND):
        tokens = int(LEAST_TOKENS * (MOST_TOKENS / LEAST_TOKENS) ** chance.random())
        yield Size(tokens, int(tokens * chance.uniform(1, MOST_MARGIN)) + 1)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    async def __aiter__(self) -> AsyncIterator[bytes]:
        usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": self._tokens}
        said: tuple[dict[str, object], ...] = (
            {"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        )
        for chunk in said:
            yield b"data: " + json.dumps({"model": "twin-small", **chunk}).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"


class BillingProvider(httpx.AsyncBaseTransport):
    """Naps for a little, and bills as many tokens as the message says."""

    def __init__(self) -> None:
        self.billed_pico = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """A streamed chat completion."""
        told = re.search(rb"answer in (\d+) tokens", await request.aread())
        assert told
        await asyncio.sleep(random.uniform(*NAP_S))
        size = Size(int(told[1]), 0)
        self.billed_pico += size.cost_pico
        head = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=head, stream=_Stream(size.tokens), request=request)


async def one(assembly: Assembly, size: Size) -> str:
    """What became of a job."""
    job = Job(
        tenant="acme",
        task="classify_intent",
        messages=[Message(role="user", content=f"answer in {size.tokens} tokens")],
        params=GenerationParams(max_output_tokens=size.max_tokens),
    )
    lease = Lease("bench", confirmed_until=float("inf"))
    try:
        answer = await assembly.routed.pipeline(
            JobRun(job=job, lease=lease, routing=assembly.routed.routing, message=b"{}")
        )
    except (HandBack, RetryLater) as error:
        return type(error).__name__
    assert answer.standing
    error = answer.standing.error
    return f"{error.code.value}: {error.reason}" if error else "succeeded"


async def a_round(assembly: Assembly, jobs: Iterator[Size]) -> Counter[str]:
    """Every job of a round, SLOTS at a time."""
    outcomes: Counter[str] = Counter()

    async def slot() -> None:
        for size in jobs:
            outcomes[await one(assembly, size)] += 1

    await asyncio.gather(*(slot() for _ in range(SLOTS)))
    return outcomes


async def serve(process: int) -> None:
    """Until the input ends."""
    provider = BillingProvider()
    assembly = await assemble(WorkerSettings.from_env(), transport=provider)
    try:
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            outcomes = await a_round(assembly, sizes(process, int(line)))
            print(json.dumps([dict(outcomes), provider.billed_pico]), flush=True)
    finally:
        await assembly.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
