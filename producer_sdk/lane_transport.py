"""Kombu's stock Redis transport, except that `fairlane.run_job` goes into lanes instead of a list.

The one method overridden is `Channel._put`, whose signature has stood since kombu 2.0. URL, scheme and driver type
stay those of the stock transport (Flower and Celery look at them), and so does every other message.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import redis
from kombu.compression import decompress
from kombu.connection import Connection, ConnectionPool
from kombu.transport.redis import Channel, Transport
from kombu.utils.collections import HashedSeq
from redis.backoff import NoBackoff
from redis.retry import Retry

from producer_sdk.broker import NO_FSYNC
from producer_sdk.contract import ErrorCode, Job, JobError, JobResult, uuid7
from producer_sdk.contract.envelope import TASK_NAME, BadMessage, LaneEntry, job_in, pack
from producer_sdk.errors import BrokerUnavailable, JobRejected, SettingsError
from producer_sdk.lanes import LanesBlocking, WrongShards
from producer_sdk.settings import FleetSettings, redis_url

ROUTE = "fairlane"  # the header that canvas.py adds for this file; it goes no further
_NOT_CARRIED = {ROUTE, "lang", "task", "argsrepr", "kwargsrepr", "eta", "compression"}


class LanePublisher:
    """Puts published jobs into lanes; a retry of the job that is running moves it there."""

    def __init__(self, settings: FleetSettings) -> None:
        self._settings = settings
        limit_s = settings.broker_timeout_s
        self._redis = redis.Redis.from_url(
            redis_url(settings.broker_url),
            socket_timeout=limit_s,
            socket_connect_timeout=limit_s,
            retry=Retry(NoBackoff(), 0),  # kombu repeats what may be repeated
        )
        self._lanes = LanesBlocking(self._redis, namespace=settings.namespace, shards=settings.lane_shards)

    def close(self) -> None:
        """Close its connections; a later publish opens new ones."""
        self._redis.close()

    def publish(self, message: dict[str, Any], body: bytes) -> None:
        """Put one message of kombu's. Safe to repeat. Raises JobRejected, or redis-py's errors for kombu to retry."""
        headers = message["headers"]
        route = headers.get(ROUTE) or {}
        job, entry = self._packed(message, body, route)
        if route.get("tag"):
            self._lanes.move(
                route["tag"], entry, story=route.get("story") or ""
            )  # False: the job is another worker's by now, which runs it
            return
        inside = bool(route.get("inside"))
        try:
            [reply] = self._lanes.put([entry], ttl_s=self._settings.result_ttl_s, inside=inside)
        except WrongShards as error:
            raise SettingsError(str(error)) from error
        if reply.outcome == "queue_full":
            sentence = f"the tenant has {reply.depth} jobs waiting and its cap is {reply.cap}"
            raise refused(entry.job_id, ErrorCode.QUEUE_FULL, sentence)
        if reply.outcome == "conflict" and not inside:
            raise refused(
                entry.job_id, ErrorCode.INVALID_JOB, "this task id was used for another job: use a new one"
            )

        if job.durability == "fsync":
            self._wait_for_disk(entry.job_id)

    def _wait_for_disk(self, job_id: str) -> None:
        """The log is one sequence: when a later write of ours is on the disk, so is the put."""
        limit_ms = int(self._settings.broker_timeout_s * 1000)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(f"{self._settings.namespace}:fsync", 1, ex=60)
        pipeline.waitaof(1, 0, limit_ms - 100)
        try:
            written = pipeline.execute()[1][0]
        except redis.ResponseError as error:
            raise BrokerUnavailable(NO_FSYNC) from error
        if not written:
            raise BrokerUnavailable(
                f"the broker did not write job {job_id} to its disk in time: it may still run"
            )

    def _packed(self, message: dict[str, Any], body: bytes, route: dict[str, Any]) -> tuple[Job, LaneEntry]:
        headers, properties = message["headers"], message["properties"]
        kept = {name: headers[name] for name in headers.keys() - _NOT_CARRIED if headers[name] is not None}
        for name in ("correlation_id", "reply_to", "priority"):
            kept[name] = properties.get(name)
        try:
            if message["content-type"] != "application/json":
                raise BadMessage("a job travels as JSON: leave the serializer out")
            key = self._settings.producer_key
            job = job_in(body)
            due_ms, batch_id = route.get("due_ms", 0), route.get("batch_id")
            batch = uuid.UUID(batch_id) if batch_id else None
            return job, pack(job, body, celery=kept, due_ms=due_ms, signing_key=key, batch_id=batch)
        except BadMessage as error:
            raise refused(str(headers["id"]), ErrorCode.INVALID_JOB, str(error)) from error


def refused(task_id: str, code: ErrorCode, sentence: str) -> JobRejected:
    """The error that a publish raises, with a result like any other rejection's."""
    try:
        job_id = uuid.UUID(task_id)
    except ValueError:
        job_id = uuid7()
    return JobRejected(JobResult(job_id=job_id, status="rejected", error=JobError.of(code, sentence)))


class LaneChannel(Channel):
    """Stock, but for the jobs."""

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        if message["headers"].get("task") != TASK_NAME:
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]  # kombu's
            return
        decoded = self.decode_body(message["body"], message["properties"].get("body_encoding"))  # type: ignore[no-untyped-call]  # kombu's
        body = decoded.encode() if isinstance(decoded, str) else decoded
        compression = message["headers"].get("compression")
        if compression:
            body = decompress(body, compression)  # type: ignore[no-untyped-call]  # kombu's
        self.connection.client.publisher.publish(message, body)


class LaneTransport(Transport):
    """Stock, with LaneChannel."""

    Channel = LaneChannel


class LaneConnection(Connection):
    """Stock, with LaneTransport; `connection_class` gives each app a class of its own, since clones keep the class."""

    publisher: ClassVar[LanePublisher]

    def get_transport_cls(self) -> type[Transport]:
        """The transport, whatever the alias of the URL's scheme names."""
        return LaneTransport

    def Pool(self, limit: int | None = None, **options: Any) -> ConnectionPool:  # noqa: N802 - kombu's name
        """A pool whose connections publish as this one does."""
        return LanePool(self, limit, **options)  # type: ignore[no-untyped-call]  # kombu's

    def __eqhash__(self) -> HashedSeq:
        """Kombu pools connections that compare equal; two apps must not share one."""
        stock = super().__eqhash__()  # type: ignore[no-untyped-call]  # kombu's
        return HashedSeq(*stock, id(self.publisher))  # type: ignore[no-untyped-call]  # kombu's


class LanePool(ConnectionPool):
    """Stock; kombu makes pooled connections of a class of its own, so they are told where jobs go."""

    def new(self) -> Connection:
        """One more connection."""
        pooled: Any = super().new()  # type: ignore[no-untyped-call]  # kombu's
        pooled.publisher = self.connection.publisher
        pooled.get_transport_cls = self.connection.get_transport_cls
        return pooled  # type: ignore[no-any-return]


def connection_class(settings: FleetSettings) -> type[LaneConnection]:
    """The connections of one app."""
    return type("LaneConnection", (LaneConnection,), {"publisher": LanePublisher(settings)})
