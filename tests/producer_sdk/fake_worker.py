"""A worker in twenty lines: takes from the real lanes, ends jobs in the shapes of Celery's result backend."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import redis
import redis.asyncio
from pydantic import BaseModel

from producer_sdk.contract import ErrorCode, Job, JobError, JobResult, Vectors
from producer_sdk.contract.control import (
    CONFIRM,
    RELEASE,
    RESERVE,
    USAGE,
    BatchReserved,
    ConfirmBatches,
    ReleaseBatches,
    ReserveBatch,
    UsageLine,
    UsageReport,
)
from producer_sdk.contract.envelope import read_job, unpack
from producer_sdk.lanes import Delivery, Finished, Lanes, Limits, TenantLimits
from tests.servers import Valkey

Answer = Callable[[Job], JobResult]
WIDE = Limits(TenantLimits(concurrency=10_000), {})


def reserved(job: Job, asked: str) -> BatchReserved:
    """As if every batch had room."""
    question = ReserveBatch.model_validate_json(asked)
    usd, until = Decimal("0.01") * len(question.lines), datetime.now(UTC) + timedelta(seconds=question.for_s)
    return BatchReserved(batch_id=job.job_id, lines=len(question.lines), reserved_usd=usd, expires_at=until)


def report(job: Job, _asked: str) -> UsageReport:
    """Of a tenant that has used nothing."""
    nothing = UsageLine(
        group={},
        attempts=0,
        cache_hits=0,
        uncertain=0,
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cost_usd=Decimal(0),
        saved_usd=Decimal(0),
    )
    return UsageReport(tenant=job.tenant, since=date(2026, 11, 1), before=None, lines=[], total=nothing)


CONTROL: dict[str, Callable[[Job, str], BaseModel]] = {
    RESERVE: reserved,
    CONFIRM: lambda _job, asked: ConfirmBatches.model_validate_json(asked),
    RELEASE: lambda _job, asked: ReleaseBatches.model_validate_json(asked),
    USAGE: report,
}


def echo(job: Job) -> JobResult:
    """Answers with what it was asked; "fail", "reject" do as they say. A line costs a cent.

    An input's vector is its length, and as many ones as make up the dimensions.
    """
    if job.inputs:
        length = job.params.dimensions or 3
        numbers = [array("f", [len(text), *[1] * (length - 1)]) for text in job.inputs]
        vectors = Vectors.packed(numbers, dimensions=length)
        return JobResult(job_id=job.job_id, status="succeeded", vectors=vectors)
    asked = job.messages[-1].text
    if job.task in CONTROL:
        data = CONTROL[job.task](job, asked).model_dump(mode="json")
        return JobResult(job_id=job.job_id, status="succeeded", data=data)
    if asked == "fail":
        return JobResult.ended(
            job.job_id, JobError.of(ErrorCode.PROVIDER_UNAVAILABLE, "every provider was down")
        )
    if asked == "reject":
        return JobResult.ended(job.job_id, JobError.of(ErrorCode.POLICY_DENIED, "not for this tenant"))
    return JobResult(job_id=job.job_id, status="succeeded", text=f"echo: {asked}")


def success_meta(result: JobResult) -> bytes:
    """An answered job, rejections included."""
    meta = {"status": "SUCCESS", "result": result.model_dump(mode="json"), "traceback": None, "children": []}
    return json.dumps(
        meta | {"date_done": "2026-11-23T12:00:00+00:00", "task_id": str(result.job_id)}
    ).encode()


def failure_meta(result: JobResult) -> bytes:
    """With raises=True: Celery's exception, our result beside it."""
    exception = {"exc_type": "JobEndedError", "exc_message": ["why"], "exc_module": "worker.app"}
    meta = {"status": "FAILURE", "result": exception, "fairlane": result.model_dump(mode="json")}
    return json.dumps(meta | {"traceback": "…", "children": [], "task_id": str(result.job_id)}).encode()


def ended(delivery: Delivery, answer: Answer) -> bytes:
    """The result of one delivery."""
    if delivery.stop:
        code = ErrorCode.EXPIRED if delivery.stop == "expired" else ErrorCode.CANCELLED
        return success_meta(
            JobResult.ended(uuid.UUID(delivery.job_id), JobError.of(code, f"it was {delivery.stop}"))
        )
    return success_meta(answer(read_job(unpack(delivery.message))))


class FakeWorker:
    """Works in a thread with a loop of its own until it is stopped."""

    def __init__(self, server: Valkey, namespace: str, answer: Answer, limits: Limits) -> None:
        self._limits = limits
        self.done: list[str] = []
        self._server = server
        self._namespace = namespace
        self._answer = answer
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()))

    def start(self) -> None:
        """Begin to take."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more."""
        self._stopped.set()
        self._thread.join(10)

    async def _work(self) -> None:
        async with redis.asyncio.Redis.from_url(self._server.redis_url) as client:
            lanes = Lanes(client, namespace=self._namespace)
            await lanes.set_limits(self._limits)
            while not self._stopped.is_set():
                try:
                    await self._turn(lanes)
                except redis.RedisError:  # the test has killed the broker
                    await asyncio.sleep(0.05)

    async def _turn(self, lanes: Lanes) -> None:
        reply = await lanes.take(64, worker="fake", lease_ms=30_000, op_id=uuid.uuid4().hex)
        items = [
            Finished(
                one.tag,
                ended(one, self._answer),
                ttl_s=60,
                reply_to=unpack(one.message).header.reply_to,
            )
            for one in reply.deliveries
        ]
        if items:
            await lanes.finish(items)
            self.done += [one.job_id for one in reply.deliveries]
        else:
            await asyncio.sleep(0.005)


async def set_limits(server: Valkey, namespace: str, limits: Limits) -> None:
    """What a fleet's workers say when they start."""
    async with redis.asyncio.Redis.from_url(server.redis_url) as client:
        await Lanes(client, namespace=namespace).set_limits(limits)


async def give_up_everything(server: Valkey, namespace: str) -> None:
    """End whatever waits, and list it as dead."""
    async with redis.asyncio.Redis.from_url(server.redis_url) as client:
        lanes = Lanes(client, namespace=namespace)
        await lanes.set_limits(WIDE)
        reply = await lanes.take(64, worker="fake", lease_ms=30_000, op_id=uuid.uuid4().hex)
        why = "it killed its workers"
        ends = [(one.tag, ended(one, echo)) for one in reply.deliveries]
        await lanes.finish([Finished(tag, result, ttl_s=60, reply_to=None, dead=why) for tag, result in ends])


@contextmanager
def working(
    server: Valkey, namespace: str, answer: Answer = echo, *, limits: Limits = WIDE
) -> Iterator[FakeWorker]:
    """A worker for the length of a test."""
    worker = FakeWorker(server, namespace, answer, limits)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()
