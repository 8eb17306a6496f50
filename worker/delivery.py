"""One delivery in this worker's hands: its lease, its run through the pipeline within limits, its ack."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pydantic_core
import redis.exceptions
from pydantic import JsonValue

from producer_sdk.contract import MEANINGS, ErrorCode, JobError, JobResult
from producer_sdk.contract.envelope import BadMessage, Envelope, Header, check_job, is_signed
from producer_sdk.lanes import Delivery, Finished
from worker.assembly import Assembly
from worker.errors import HandBack, JobInterrupted, LeaseLost, LedgerUnavailable, RetryLater
from worker.job_run import JobRun, Lease, ProceedJob
from worker.lane_story import begun
from worker.reload.follow import Routed
from worker.results.backend import PAYLOAD
from worker.results.meta import success_meta
from worker.streaming.rules import ending

LEAST_GRACE_S = 1.0  # between the cancelling of a job and its abandoning
Interruption = Literal["cancelled", "soft_limit", "shutdown", "lost"]
logger = logging.getLogger(__name__)


@dataclass
class LaneMessage:
    """What Celery's strategies need of a message; `body` is already decoded, so content_type is None."""

    body: list[Any]
    headers: dict[str, Any]
    properties: dict[str, Any]
    delivery_info: dict[str, Any]
    content_type: None = None
    content_encoding: None = None

    @property
    def payload(self) -> list[Any]:
        """The decoded body: [args, kwargs, embed]."""
        return self.body


@dataclass
class Limits:
    """How long a job may run, in seconds: at `soft_s` it is cancelled, at `hard_s` it is abandoned."""

    soft_s: float
    hard_s: float


@dataclass
class HeldDelivery:
    """A job that this worker holds, from take to ack."""

    delivery: Delivery
    header: Header
    assembly: Assembly
    lease: Lease
    acknowledge: Callable[[HeldDelivery, Finished], None]
    begun: Callable[[HeldDelivery], None]
    result: JobResult | None = None
    released: bool = False
    _why: Interruption | None = None
    _stop: str | None = None
    _unreadable: str = ""
    _inner: asyncio.Task[Any] | None = None
    _running: JobRun | None = None
    _streams: bool = False
    _known: JobRun | None = None
    _properties: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._began = time.monotonic()

    @property
    def tag(self) -> str:
        """The delivery's tag, unique to this delivery."""
        return self.delivery.tag

    def message(self, body: list[Any], celery_headers: dict[str, Any]) -> LaneMessage:
        """The delivery as Celery sees it. What events, logs and Flower show of it holds no prompt."""
        header = self.header
        self._properties = {
            "delivery_tag": self.tag,
            "delivery": self,
            "priority": header.priority,
            "correlation_id": header.job_id,
            "reply_to": celery_headers.get("reply_to"),
            "batch_id": str(header.batch_id) if header.batch_id else None,
        }
        shown = repr({"tenant": header.tenant, "task": header.task, "job_id": header.job_id})
        headers = {
            "lang": "py",
            "root_id": header.job_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "ignore_result": False,
            **celery_headers,
            "id": header.job_id,
            "task": "fairlane.run_job",
            "argsrepr": "()",
            "kwargsrepr": shown,
            "eta": None,
            "expires": None,
        }
        return LaneMessage(
            body=body,
            headers=headers,
            properties=self._properties,
            delivery_info={
                "exchange": "",
                "routing_key": "fairlane",
                "priority": header.priority,
                "redelivered": False,
            },
        )

    async def run(self, *, job: Any, retries: int, limits: Limits) -> JobResult:
        """Carry the job through the pipeline. Raises JobInterrupted when it ends nowhere here."""
        routed = (
            self.assembly.routed
        )  # for the whole of this delivery, whatever routing.yaml becomes meanwhile
        try:
            job_run = self._job_run(job, retries, routed)
        except BadMessage as error:
            self.result = self.refused(ErrorCode.INVALID_JOB, str(error))
            return self.result
        self._known = job_run
        key = self.assembly.settings.fleet.producer_key
        if key and not is_signed(self.header, key):
            self.result = self.refused(
                ErrorCode.UNSIGNED, "the job is not signed with the fleet's key: set FAIRLANE_PRODUCER_KEY"
            )
            return self.result
        self.result = await self._within(limits, job_run, routed.pipeline)
        return self.result

    def refused(self, code: ErrorCode, sentence: str) -> JobResult:
        """The result of a job whose message cannot be run."""
        return JobResult.model_validate(
            {
                "job_id": self.delivery.job_id,
                "status": MEANINGS[code].ends,
                "error": JobError.of(code, sentence),
            }
        )

    def _job_run(self, fields: Any, retries: int, routed: Routed) -> JobRun:
        job = check_job({**fields, "job_id": self.delivery.job_id} if isinstance(fields, dict) else fields)
        self._streams = job.stream
        header = self.header
        if (job.tenant, job.task, job.lane) != (header.tenant, header.task, header.lane):
            raise BadMessage("the message's header names another tenant, task or lane than its job")
        stop = self._stop or self.delivery.stop
        story = begun(self.delivery, job, retries=retries, stop=stop, began=self._began)
        return JobRun(
            job=job,
            lease=self.lease,
            routing=routed.routing,
            deliveries=self.delivery.deliveries,
            retries=retries,
            queue_ms=max(0, self.delivery.taken_ms - self.delivery.put_ms),
            put_ms=self.delivery.put_ms,
            message=self.delivery.message,
            fleet=self.assembly.settings.fleet.namespace,
            batch_id=header.batch_id,
            stop=stop,
            story=story,
            on_wait=partial(self.begun, self),
        )

    async def _within(self, limits: Limits, job_run: JobRun, pipeline: ProceedJob) -> JobResult:
        loop = asyncio.get_running_loop()
        if self._why:
            raise HandBack(f"interrupted before it began: {self._why}")
        self._running = job_run
        self._inner = loop.create_task(self._answered(job_run, pipeline))
        soft_s = min(limits.soft_s, limits.hard_s)
        soft = loop.call_later(soft_s, self.interrupt, "soft_limit")
        try:
            done, _late = await asyncio.wait(
                {self._inner}, timeout=max(limits.hard_s, soft_s + LEAST_GRACE_S)
            )
        finally:
            soft.cancel()
        if not done:
            self.lease.lost = True  # whatever it still does, it must not begin another call
            logger.error("job %s did not end at its hard limit and is abandoned", job_run.job_id)
            return await self._ended(
                job_run, ErrorCode.DEADLINE_EXCEEDED, "the job's hard time limit has passed"
            )
        return await self._outcome(job_run, self._inner)

    async def _answered(self, job_run: JobRun, pipeline: ProceedJob) -> JobResult:
        answer = await pipeline(job_run)
        return answer.standing or job_run.result_of(answer)

    async def _outcome(self, job_run: JobRun, inner: asyncio.Task[JobResult]) -> JobResult:
        try:
            return inner.result()
        except asyncio.CancelledError:
            return await self._interrupted(job_run)
        except JobInterrupted:
            raise
        except (LedgerUnavailable, redis.exceptions.RedisError) as error:
            raise HandBack(type(error).__name__, delay_ms=1000) from error
        except Exception as error:
            logger.exception("job %s failed inside the worker", job_run.job_id)
            sentence = (
                f"the worker failed on this job ({type(error).__name__}): see its log, then submit it anew"
            )
            return await self._ended(job_run, ErrorCode.INTERNAL, sentence)

    async def _interrupted(self, job_run: JobRun) -> JobResult:
        if self._why == "cancelled":
            return await self._ended(job_run, ErrorCode.CANCELLED, "the job was cancelled while it ran")
        if self._why == "soft_limit":
            return await self._ended(job_run, ErrorCode.DEADLINE_EXCEEDED, "the job's time limit has passed")
        if self._why == "lost":
            raise LeaseLost("another worker owns the job now")
        raise HandBack("the worker is shutting down")

    async def _ended(self, job_run: JobRun, code: ErrorCode, sentence: str) -> JobResult:
        result = job_run.ended(JobError.of(code, sentence))
        try:
            return await self.assembly.ledger.finish(job_run, result)
        except LedgerUnavailable as error:
            raise HandBack("the ledger is away", delay_ms=1000) from error

    def interrupt(self, why: Interruption) -> None:
        """Close the job's call and end its run; what it cost is booked on the way out."""
        if why == "lost":
            self.lease.lost = True
        if self._why is None:
            self._why = why
            if self._running and self._inner and not self._inner.done():
                self._running.interruption = why
                self._inner.cancel()

    def interrupt_before(self, stop: str) -> None:
        """The job must not be called at all: it is run only to write its end."""
        self._stop = self._stop or stop

    async def hand_back(self, delay_ms: int, *, why: str = "") -> None:
        """Give the job back to its lane, uncounted; `why` is noted in its story."""
        self.released = True
        story = self.story("handed_back", why=why, delay_ms=delay_ms)
        await patiently(lambda: self.assembly.lanes.hand_back(self.tag, delay_ms=delay_ms, story=story))

    def story(self, what: str, **facts: JsonValue) -> str:
        """The story of a job that goes back to its lane; '' where no step has seen it."""
        return self._known.story.written("lane", what, **facts) if self._known else ""

    def will_retry(self, later: RetryLater) -> None:
        """Celery's retry is published by this delivery's properties: the lane moves the job, and its story with it."""
        self._properties["story"] = self.story("retried_later", why=str(later), delay_ms=later.delay_ms)

    def on_ack(self, *_celery: Any) -> None:
        """Celery says the job has ended: write its result and free its slot, if it is still ours."""
        if self.released:
            self.acknowledge(self, Finished(tag=self.tag, result=None, ttl_s=0, reply_to=None))
            return
        payload = self._properties.get(PAYLOAD)
        if payload is None:
            # Celery stored nothing (it was to ignore the result, or failed itself): the producer waits all the same
            self.finish_with(
                self.result or self.refused(ErrorCode.INTERNAL, "the worker failed: see its log")
            )
            return
        self.finish(payload.encode() if isinstance(payload, str) else payload)

    def on_reject(self, _logger: Any, _errors: Any, requeue: bool = False) -> None:
        """Celery gives the job up: back to its lane, or ended as it stands."""
        if requeue and not self.released:
            self.released = True
            asyncio.get_running_loop().create_task(self._rejected())
            return
        self.on_ack()

    async def _rejected(self) -> None:
        try:
            await self.hand_back(1000)
        finally:
            self.on_ack()

    def finish(self, payload: bytes | None) -> None:
        """Hand the encoded result to the acks."""
        ttl_s = self.assembly.settings.fleet.result_ttl_s
        reply_to = self.header.reply_to
        used = used_tokens(self.result) if self.result else None
        last = ending(self.result).written() if self.result and self._streams else b""
        ended = Finished(self.tag, payload, ttl_s, reply_to, used=used, dead=self._unreadable, ending=last)
        self.acknowledge(self, ended)

    def finish_with(self, result: JobResult, *, unreadable: str = "") -> None:
        """End a delivery that never reaches Celery's tracer; one that cannot be read is kept as a dead letter."""
        self.result, self._unreadable = result, unreadable
        self.finish(success_meta(result))


def used_tokens(result: JobResult) -> tuple[int, int] | None:
    """The (input, output) tokens that providers were asked for; None where one of the calls left that open."""
    if any(attempt.status == "uncertain" for attempt in result.attempts):
        return None
    usages = [attempt.usage for attempt in result.attempts]
    return sum(usage.input_tokens for usage in usages), sum(usage.output_tokens for usage in usages)


async def patiently(call: Callable[[], Awaitable[Any]], *, within_s: float = 600.0) -> Any:
    """Repeat a script until the broker has answered; every script may be repeated."""
    pause, end = 0.05, time.monotonic() + within_s
    while True:
        try:
            return await call()
        except redis.exceptions.RedisError as error:
            if time.monotonic() > end:
                raise
            logger.warning("the broker did not answer (%s): trying again", type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)


def decoded(envelope: Envelope) -> list[Any]:
    """Celery's task body in a message. Raises BadMessage."""
    try:
        body = pydantic_core.from_json(envelope.body, allow_inf_nan=False)
    except ValueError as error:
        raise BadMessage("the body is not JSON: see docs/wire.md") from error
    shape = isinstance(body, list) and len(body) == 3 and isinstance(body[1], dict)
    if not shape or not isinstance(body[0], list) or not isinstance(body[2], dict | None):
        raise BadMessage('the body is not [args, {"job": {…}}, embed]: see docs/wire.md')
    return [body[0], body[1], body[2] or {}]
