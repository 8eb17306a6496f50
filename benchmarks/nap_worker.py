"""A Fairlane worker whose jobs sleep in place of every step: take, run and ack are the real ones."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

from benchmarks.nap import Begun, Nap
from producer_sdk.contract import AttemptSummary, Usage, uuid7
from producer_sdk.lanes import Lanes, TakeReply
from worker.app import build_app
from worker.assembly import Assembly, assemble
from worker.job_run import Answer, JobRun
from worker.settings import WorkerSettings

TAKEN_MS: dict[str, int] = {}


class NotingLanes(Lanes):
    """Notes when each job was taken, by the server's clock."""

    async def take(self, n: int, *, worker: str, lease_ms: int, op_id: str) -> TakeReply:
        """As ever."""
        reply = await super().take(n, worker=worker, lease_ms=lease_ms, op_id=op_id)
        TAKEN_MS.update({delivery.tag: delivery.taken_ms for delivery in reply.deliveries})
        return reply


async def nap(job_run: JobRun) -> Answer:
    """Sleep as the message says; answer when the job was taken and when it began, with the usage that it was told."""
    begun = Begun(TAKEN_MS.pop(job_run.lease.tag), time.time())
    told = Nap.heard(job_run.job.messages[0].text)
    usage = Usage(input_tokens=told.input_tokens, output_tokens=told.output_tokens)
    names = {"provider": "none", "deployment": "none", "model": "none"}
    attempt = AttemptSummary(attempt_id=uuid7(), number=1, status="settled", usage=usage, **names)
    job_run.attempts.append(attempt)
    if told.most_s:
        await asyncio.sleep(random.uniform(told.least_s, told.most_s))
    return Answer(text=begun.said(), usage=usage, cost_pico=0, latency_ms=0, **names)


async def parts() -> Assembly:
    """The worker's parts."""
    assembly, fleet = await assemble(SETTINGS), SETTINGS.fleet
    lanes = NotingLanes(assembly.redis, namespace=fleet.namespace, shards=fleet.lane_shards)
    assembly.follow.current = replace(assembly.routed, pipeline=nap)
    return replace(assembly, lanes=lanes)


SETTINGS = WorkerSettings.from_env()
app = build_app(SETTINGS, parts)
