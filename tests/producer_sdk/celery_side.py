"""The worker's side of a canvas: Celery's own tracer over a delivery from the real lanes, one at a time."""

from __future__ import annotations

import asyncio
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis.asyncio
from celery import Celery, Task
from celery.app.trace import build_tracer

from producer_sdk import FleetSettings
from producer_sdk.canvas import celery_app
from producer_sdk.contract.envelope import TASK_NAME, unpack
from producer_sdk.lanes import Delivery, Finished, Lanes, Limits, TenantLimits


class AnsweringRunJob(Task):
    """Answers with the job's tenant and last message; "retry" retries once."""

    name = TASK_NAME
    default_retry_delay = 0
    typing = False

    def run(self, previous: Any = None, *, job: Any = None, raises: bool = False) -> dict[str, Any]:
        asked = job["messages"][-1]["content"]
        if asked == "retry" and self.request.retries == 0:
            raise self.retry(countdown=0.05)
        return {"previous": previous, "tenant": job["tenant"], "text": asked}


class CelerySide:
    """Takes one job after the other and runs it as Celery's worker would."""

    def __init__(self, settings: FleetSettings, client: redis.asyncio.Redis) -> None:
        self.app: Celery = celery_app(settings)
        self.app.register_task(AnsweringRunJob())
        self.max_pending: int | None = None
        self.lanes = Lanes(client, namespace=settings.namespace)
        self._thread = ThreadPoolExecutor(1)

    def close(self) -> None:
        """Close what its thread has opened: Celery keeps a result backend a thread."""
        self._thread.submit(self.app.close).result(10)
        self._thread.shutdown()

    async def take(self) -> Delivery:
        """The next delivery, with a deadline."""
        await self.lanes.set_limits(Limits(TenantLimits(concurrency=100, max_pending=self.max_pending), {}))
        async with asyncio.timeout(10):
            while True:
                reply = await self.lanes.take(1, worker="w", lease_ms=30_000, op_id=uuid.uuid4().hex)
                if reply.deliveries:
                    return reply.deliveries[0]
                await asyncio.sleep(0.01)

    async def run(self, delivery: Delivery) -> bool:
        """Trace it in a thread, for canvases publish; True if the tag was still live at its end."""
        envelope = unpack(delivery.message)
        args, kwargs, embed = json.loads(envelope.body)
        headers = dict(envelope.header.celery)
        request = {
            **headers,
            **embed,
            "id": delivery.job_id,
            "args": args,
            "kwargs": kwargs,
            "properties": {"delivery_tag": delivery.tag},
            "delivery_info": {
                "exchange": "",
                "routing_key": "fairlane",
                "priority": envelope.header.priority,
            },
            "is_eager": False,
            "hostname": "w",
        }
        task = self.app.tasks[TASK_NAME]
        tracer = build_tracer(TASK_NAME, task, app=self.app)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, tracer, delivery.job_id, args, kwargs, request)
        [live] = await self.lanes.finish([Finished(delivery.tag, None, ttl_s=60, reply_to=None)])
        return live

    async def work(self, jobs: int) -> list[Delivery]:
        """Run so many jobs, one after the other."""
        done = []
        for _ in range(jobs):
            delivery = await self.take()
            await self.run(delivery)
            done.append(delivery)
        return done
