"""Feeds Celery from the lanes: takes jobs, keeps their leases, hears of cancellations, and drains on shutdown.

Kombu's stock Redis transport carries only events and remote control (docs/decisions/0001). Jobs come through
`Lanes.take` and are handed to Celery's own task strategy with an ack and reject of ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import redis.exceptions
from celery import bootsteps
from celery.worker.consumer.tasks import Tasks
from celery.worker.request import Request
from celery.worker.state import revoked as revoked_ids

from producer_sdk.contract import ErrorCode
from producer_sdk.contract.envelope import (
    BadMessage,
    Envelope,
    Header,
    NewerVersion,
    unpack,
)
from producer_sdk.contract.ids import uuid7
from producer_sdk.lanes import Delivery, Lanes, WrongShards
from worker import memory
from worker.acks import Acks, put_back
from worker.assembly import Assembly
from worker.beginnings import Beginnings
from worker.delivery import HeldDelivery, decoded, patiently
from worker.errors import ConfigError, LedgerUnavailable
from worker.job_run import Lease
from worker.pool import LoopPool
from worker.reload.follow import LOOK_S

Dispatch = Callable[[HeldDelivery, list[Any]], None]
Assemble = Callable[[], Awaitable[Assembly]]
IDLE_S = 2.5  # wake-ups are said by pub/sub; this covers one that was lost
EVENTS_EVERY_S = 0.25
GIVE_BACK_EVERY_S = 15.0
NEWER_VERSION_WAIT_MS = 600_000
START_TIMEOUT_S = 60.0
MOST_CANCELS = 5  # Python 3.11's wait_for, in the Redis client, may swallow one
logger = logging.getLogger(__name__)


class JobRequest(Request):  # type: ignore[misc]  # celery has no type information
    """Celery's request, except that a revoked job still ends with a result and a ledger row."""

    def revoked(self) -> bool:
        """A revoked job is run as cancelled, so that its end is written down."""
        if self.id in revoked_ids:
            self.message.properties["delivery"].interrupt_before("cancelled")
        return False

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What `inspect` and Flower are told: never the arguments themselves, which hold the prompt."""
        told: dict[str, Any] = super().info(safe=True)
        return told

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """`revoke(terminate=True)`: cancel the job, not the process that a thousand others run in."""
        delivery = self.message.properties["delivery"]
        delivery.loop.call_soon_threadsafe(delivery.interrupt, "cancelled")


class LaneFeeder:
    """One worker's side of the lanes; everything in it runs on the pool's loop."""

    def __init__(self, assembly: Assembly, dispatch: Dispatch) -> None:
        self.assembly = assembly
        self.held: dict[str, HeldDelivery] = {}
        self._dispatch = dispatch
        self._acks = Acks(assembly, self._freed)
        self._beginnings = Beginnings()
        self._woken = asyncio.Event()
        self._taking = True
        self._orphans_due = 0.0
        self._failed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._putting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to take, beat, listen and reap."""
        beat_s = self.assembly.settings.beat_s
        loops: list[Coroutine[Any, Any, None]] = [
            self._take_loop(),
            self._listen(),
            self._every(beat_s, self._beat),
            self._every(beat_s, self.assembly.health.beat),
            self._every(GIVE_BACK_EVERY_S, self._give_back_memory),
            self._every(beat_s / 3, self._look),  # metrics of an idle worker stay true
            self._every(LOOK_S, self.assembly.follow.tick),
            # more often than beats: a dead worker's jobs come back soon after their lease
            self._every(beat_s / 3, self._sweep),
            self._every(self.assembly.settings.lease_s / 2, self.assembly.reaper.tick),
        ]
        self._tasks = [self._duty(loop) for loop in loops]

    def _duty(self, loop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(loop)
        task.add_done_callback(self._shut_down_if_failed)
        return task

    def _shut_down_if_failed(self, duty: asyncio.Task[None]) -> None:
        """A worker without one of its duties must not go on: give back what it holds, and be started anew."""
        if not duty.cancelled() and duty.exception():
            logger.critical("a duty of the worker has failed: shutting down", exc_info=duty.exception())
            self._failed = True
            os.kill(os.getpid(), signal.SIGTERM)

    def stop_taking(self) -> None:
        """Take no more jobs; those in hand go on."""
        self._taking = False
        self._woken.set()

    def resume(self) -> None:
        """Take again, after Celery has reconnected its own connections."""
        self._taking = True
        if self._tasks[0].done():
            self._tasks[0] = self._duty(self._take_loop())

    async def drain(self) -> None:
        """Warm shutdown: wait for the jobs in hand, give back what does not end in time, close everything."""
        self.stop_taking()
        await asyncio.wait({self._tasks[0]}, timeout=5)
        # a worker that may not be beating any more must not work on: its leases would end under it
        if not await self._emptied(0.0 if self._failed else self.assembly.settings.shutdown_grace_s):
            for held in list(self.held.values()):
                held.interrupt("shutdown")
            await self._emptied(10.0)
        if self._putting:
            await asyncio.wait(self._putting, timeout=10.0)
        for _ in range(MOST_CANCELS):
            for task in self._tasks:
                task.cancel()
            _ended, going_on = await asyncio.wait(self._tasks, timeout=1.0)
            if not going_on:
                break
        await self.assembly.close()

    async def _emptied(self, within_s: float) -> bool:
        end = time.monotonic() + within_s
        while self.held and time.monotonic() < end:
            await asyncio.sleep(0.05)
        return not self.held

    async def _take_loop(self) -> None:
        while self._taking:
            self._woken.clear()
            now = time.monotonic()
            slots, beginnings = self.assembly.settings.slots - len(self.held), self._beginnings.room(now)
            if slots <= 0 or not beginnings:
                await self._sleep(IDLE_S if beginnings else self._beginnings.next_s(now))
                continue
            try:
                await self._take(min(slots, beginnings, self.assembly.settings.take_batch))
            except redis.exceptions.RedisError as error:
                logger.error("the broker has been away for long (%s)", type(error).__name__)

    async def _take(self, n: int) -> None:
        settings, lanes = self.assembly.settings, self.assembly.lanes
        operation, asked = uuid7().hex, time.monotonic()
        lease_ms = int(settings.lease_s * 1000)
        reply = await patiently(
            lambda: lanes.take(n, worker=settings.worker_name, lease_ms=lease_ms, op_id=operation)
        )
        for delivery in reply.deliveries:
            self._begin(delivery, Lease(delivery.tag, asked + settings.lease_s))
        if not reply.deliveries:
            await self._sleep(IDLE_S if reply.next_ms is None else min(IDLE_S, reply.next_ms / 1000))

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), max(0.005, seconds * random.uniform(0.9, 1.1)))  # noqa: S311
        except TimeoutError:
            return

    def _begin(self, delivery: Delivery, lease: Lease) -> None:
        envelope, fault = _opened(delivery)
        held = HeldDelivery(delivery, envelope.header, self.assembly, lease, self._acks.add, self._begun)
        self.held[delivery.tag] = held
        self._beginnings.begin(delivery.tag, time.monotonic())
        try:
            if fault:
                raise fault
            self._dispatch(held, decoded(envelope))
        except NewerVersion as error:
            self._newer_version(held, error)
        except BadMessage as error:
            logger.warning("job %s cannot be read and is refused", delivery.job_id)
            held.finish_with(held.refused(ErrorCode.INVALID_JOB, str(error)), unreadable=str(error))
        except Exception:
            # Celery's strategy takes header.celery as it comes: what it trips over is this job's fault alone
            logger.exception("job %s cannot be handed to Celery and is refused", delivery.job_id)
            sentence = "header.celery holds what Celery cannot read: leave it out, or see docs/wire.md"
            held.finish_with(held.refused(ErrorCode.INVALID_JOB, sentence), unreadable=sentence)

    def _newer_version(self, held: HeldDelivery, error: NewerVersion) -> None:
        """Leave it to a newer worker for ten minutes; then say so."""
        if held.delivery.taken_ms - held.delivery.put_ms > NEWER_VERSION_WAIT_MS:
            held.finish_with(held.refused(ErrorCode.INVALID_JOB, str(error)), unreadable=str(error))
        else:
            asyncio.get_running_loop().create_task(self._give_back(held, 5000))

    async def _give_back(self, held: HeldDelivery, delay_ms: int) -> None:
        try:
            await held.hand_back(delay_ms)
        finally:
            self._freed(held)

    def _begun(self, held: HeldDelivery) -> None:
        if self._beginnings.leave(held.tag):
            self._woken.set()

    def _freed(self, held: HeldDelivery) -> None:
        self.held.pop(held.tag, None)
        self._beginnings.leave(held.tag)
        self._woken.set()

    async def _every(self, period_s: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period_s * random.uniform(0.9, 1.0))  # noqa: S311 - jitter, not a secret
            try:
                await act()
            except (redis.exceptions.RedisError, LedgerUnavailable) as error:
                logger.warning("a periodic duty failed (%s): it is tried again", type(error).__name__)

    async def _beat(self) -> None:
        settings, lanes = self.assembly.settings, self.assembly.lanes
        lease_ms, asked = int(settings.lease_s * 1000), time.monotonic()
        tags = list(self.held)
        beat = await lanes.beat(tags, lease_ms=lease_ms)
        for tag in tags:
            held = self.held.get(tag)
            if held is None:
                continue
            if tag in beat.lost:
                await self._lose(held)
            else:
                held.lease.confirmed_until = asked + settings.lease_s
                if tag in beat.cancelled:
                    held.interrupt("cancelled")

    async def _give_back_memory(self) -> None:
        await asyncio.to_thread(memory.give_back)

    async def _look(self) -> None:
        await self.assembly.health.view(self.assembly.routed.routing.deployments)

    async def _sweep(self) -> None:
        settings = self.assembly.settings
        lease_ms = int(settings.lease_s * 1000)
        swept = await self.assembly.lanes.sweep(lease_ms=lease_ms, delivery_cap=settings.delivery_cap)
        if not swept.held_off and time.monotonic() > self._orphans_due:
            self._orphans_due = time.monotonic() + settings.lease_s
            await self.assembly.orphans.tick()

    async def _lose(self, held: HeldDelivery) -> None:
        """Close the call; if the server has forgotten the job (it was flushed, or rolled back), put it back."""
        if held.lease.lost:
            return
        held.interrupt("lost")
        putting = asyncio.get_running_loop().create_task(put_back(self.assembly, held))
        self._putting.add(putting)
        putting.add_done_callback(self._putting.discard)

    async def _listen(self) -> None:
        """Wake-ups and cancellations by pub/sub; beats and the idle poll cover what it loses."""
        while True:
            pubsub = self.assembly.redis.pubsub()
            try:
                await pubsub.subscribe(*[keys.wake for keys in self.assembly.lanes.shards.all])
                self._woken.set()  # whatever was said before is not heard
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5.0)
                    if message:
                        self._heard(bytes(message["data"]))
            except (redis.exceptions.RedisError, OSError):
                await asyncio.sleep(0.5)
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _heard(self, word: bytes) -> None:
        if word.startswith(b"cancel:"):
            job_id = word.removeprefix(b"cancel:").decode()
            for held in [held for held in self.held.values() if held.delivery.job_id == job_id]:
                held.interrupt("cancelled")
        else:
            self._woken.set()


def _opened(delivery: Delivery) -> tuple[Envelope, BadMessage | None]:
    """The delivery's message, or an empty one and what is wrong with it."""
    try:
        return unpack(delivery.message), None
    except BadMessage as fault:
        header = Header(
            v=1, job_id=delivery.job_id, tenant=delivery.tenant, task="unread", lane="interactive"
        )
        return Envelope(header, b""), fault


def lane_consumer(assemble: Assemble) -> type[bootsteps.StartStopStep]:
    """The consumer bootstep that feeds this app's `fairlane.run_job` from the lanes."""

    class LaneConsumer(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no type information
        """Starts the feeder with the worker's first connection; later ones only resume it."""

        requires = (Tasks,)
        flushing: Any = None

        def start(self, c: Any) -> None:
            """Called on Celery's main thread whenever its connection is up."""
            pool: LoopPool = c.pool
            if c.event_dispatcher:
                # jobs only queue their events: publishing blocks, and is left to a timer of Celery's main thread
                c.event_dispatcher.buffer_limit = sys.maxsize
                c.event_dispatcher.on_send_buffered = None
                self.flushing = c.timer.call_repeatedly(EVENTS_EVERY_S, c.event_dispatcher.flush)
            if pool.feeder is None:
                starting = asyncio.run_coroutine_threadsafe(_start(pool, c), pool.loop)
                try:
                    starting.result(START_TIMEOUT_S)
                except TimeoutError:
                    starting.cancel()
                    raise
            else:
                # the broker was away: events go through the new connection's dispatcher from now on
                pool.feeder.assembly.signals.dispatcher = c.event_dispatcher  # type: ignore[attr-defined]
                pool.loop.call_soon_threadsafe(pool.feeder.resume)  # type: ignore[attr-defined]

        def stop(self, c: Any) -> None:
            """Called on shutdown, and when Celery's own connection breaks."""
            if self.flushing:
                self.flushing.cancel()
            if c.pool.feeder:
                c.pool.loop.call_soon_threadsafe(c.pool.feeder.stop_taking)

    async def _start(pool: LoopPool, consumer: Any) -> None:
        assembly = await assemble()
        pool.watchdog_s = assembly.settings.watchdog_s
        try:
            await agree_on_shards(assembly)
            await assembly.follow.tick()
            assembly.signals.open(consumer.event_dispatcher, assembly.settings.metrics_address)
        except BaseException:
            await assembly.close()
            raise
        feeder = LaneFeeder(assembly, _dispatch_to(consumer))
        feeder.start()
        pool.feeder = feeder

    return LaneConsumer


async def agree_on_shards(assembly: Assembly) -> None:
    """Raises ConfigError where anything is in another number of shards. Empty lanes take the worker's number.

    The number is changed first: whoever knows the old one is refused from then on, and what came before is seen.
    """
    lanes, settings = assembly.lanes, assembly.settings
    try:
        await lanes.agree()
    except WrongShards as wrong:
        old = Lanes(assembly.redis, namespace=settings.fleet.namespace, shards=wrong.found)
        await lanes.agree(change_from=wrong.found)
        if any(vars(await old.counts()).values()) or await old.pauses():
            await old.agree(change_from=lanes.shards.count)
            what = "let the jobs in them end, purge the dead letters and resume who is paused first"
            raise ConfigError(f"{wrong}, or {what}") from wrong


def _dispatch_to(consumer: Any) -> Dispatch:
    """Hand a delivery to Celery's strategy for the task."""

    def dispatch(held: HeldDelivery, body: list[Any]) -> None:
        message = held.message(body, dict(held.header.celery))
        strategy = consumer.strategies["fairlane.run_job"]
        strategy(message, None, held.on_ack, held.on_reject, consumer.on_task_message)

    return dispatch
