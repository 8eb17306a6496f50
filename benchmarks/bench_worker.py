"""Fairlane workers for benchmarks: with no steps at all (BENCH=noop), or with every step and an instant provider.

BENCH=unwatched: the same, but Redis is asked for no deployment's slot and told of no call's end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx

from producer_sdk.contract import Usage
from worker.app import build_app, run
from worker.assembly import Assembly, assemble
from worker.health.rules import Outcome
from worker.health.store import Begun, Turned
from worker.job_run import Answer, JobRun
from worker.routing_file import Deployment
from worker.settings import WorkerSettings

CHUNKS = [
    {
        "model": "twin-small",
        "choices": [{"index": 0, "delta": {"content": "card_arrival"}, "finish_reason": None}],
    },
    {"model": "twin-small", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"model": "twin-small", "choices": [], "usage": {"prompt_tokens": 120, "completion_tokens": 4}},
]
BODY = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in CHUNKS) + b"data: [DONE]\n\n"


class _Stream(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield BODY


class InstantProvider(httpx.AsyncBaseTransport):
    """Answers every call at once, in this process."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """A streamed chat completion of four tokens."""
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, stream=_Stream(), request=request
        )


async def answer_nothing(job_run: JobRun) -> Answer:
    """The no-op job: take, run and ack alone."""
    return Answer(
        text="", usage=Usage(), model="none", provider="none", deployment="none", cost_pico=0, latency_ms=0
    )


async def begin_unasked(_deployment: Deployment, **_asked: object) -> Begun:
    """Every call may be made."""
    return Begun()


async def finish_untold(_deployment: Deployment, _outcome: Outcome, **_told: object) -> Turned:
    """Nothing is learned."""
    return Turned()


async def parts() -> Assembly:
    """The worker's parts for the benchmark that BENCH names."""
    transport = InstantProvider() if os.environ["BENCH"] != "calls" else None
    assembly = await assemble(SETTINGS, transport=transport)
    if os.environ["BENCH"] == "unwatched":
        assembly.health.begin = begin_unasked  # type: ignore[method-assign]
        assembly.health.finish = finish_untold  # type: ignore[method-assign]
    if os.environ["BENCH"] == "noop":
        assembly.follow.current = replace(assembly.routed, pipeline=answer_nothing)
    return assembly


SETTINGS = WorkerSettings.from_env()
app = build_app(SETTINGS, parts)

if __name__ == "__main__":
    run(app, sys.argv[1:])
