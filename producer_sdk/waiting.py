"""Waiting for results: one subscription for all that a process waits for, and a slow poll for what it misses.

Jobs of this process are announced on its own channel (`header.reply_to`), by id; for other jobs the channel of
their result key joins the same connection. Results lie under their keys, so a lost message only costs a second.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio

from producer_sdk.broker import unavailable
from producer_sdk.contract import JobResult
from producer_sdk.errors import FleetError, ResultUnreadable
from producer_sdk.result_meta import PREFIX, read_meta, result_key
from producer_sdk.settings import FleetSettings

POLL_S = 1.0
POLLED_AT_ONCE = 500
_FETCHED_AT_ONCE = 64
_LISTEN_S = 0.2
_LINGER_S = 10.0


@dataclass
class _Waited:
    future: asyncio.Future[JobResult]
    waiters: int = 0


class Replies:
    """What this process waits for. Belongs to one event loop; it rests when nothing was waited for lately."""

    def __init__(self, client: redis.asyncio.Redis, *, channel: str, settings: FleetSettings) -> None:
        self._redis = client
        self._channel = channel
        self._settings = settings
        self._waited: dict[str, _Waited] = {}
        self._to_fetch: dict[str, None] = {}
        self._rung = asyncio.Event()
        self._foreign: set[str] = set()
        self._foreign_changed = False
        self._last_wanted = 0.0
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []

    async def result(self, job_id: str, *, own: bool, timeout_s: float) -> JobResult:
        """The job's result. Raises TimeoutError, BrokerUnavailable or ResultUnreadable."""
        waited = self._begin(job_id, own=own)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(waited.future)
        finally:
            self._end(job_id, waited)

    async def completed(
        self, own_by_id: Mapping[str, bool], *, timeout_s: float
    ) -> AsyncGenerator[dict[str, JobResult | FleetError], None]:
        """Those of these jobs that have ended since the last step, each with its result or why it cannot be had.

        Raises TimeoutError.
        """
        done: asyncio.Queue[str] = asyncio.Queue()
        begun = {job_id: self._begin(job_id, own=own) for job_id, own in own_by_id.items()}
        for job_id, waited in begun.items():
            waited.future.add_done_callback(lambda _future, job_id=job_id: done.put_nowait(job_id))  # type: ignore[misc]
        end = time.monotonic() + timeout_s
        try:
            while begun:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    ended = [await done.get()]
                while not done.empty():
                    ended.append(done.get_nowait())
                yield {job_id: self._outcome(job_id, begun.pop(job_id)) for job_id in ended}
        finally:
            for job_id, waited in begun.items():
                self._end(job_id, waited)

    def _outcome(self, job_id: str, waited: _Waited) -> JobResult | FleetError:
        failed = waited.future.exception()
        self._end(job_id, waited)
        return failed if isinstance(failed, FleetError) else waited.future.result()

    async def close(self) -> None:
        """End both tasks; whoever still waits is told."""
        self._closed = True  # a client in the middle of connecting has been seen to swallow a cancellation
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        self._give_up(FleetError("this fleet was closed while it was waited for"))
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, job_id: str, *, own: bool) -> _Waited:
        waited = self._waited.get(job_id)
        if waited is None:
            waited = self._waited[job_id] = _Waited(asyncio.get_running_loop().create_future())
            self._ring([job_id])
        if not own and job_id not in self._foreign:
            self._foreign.add(job_id)
            self._foreign_changed = True
        waited.waiters += 1
        self._work()
        return waited

    def _end(self, job_id: str, waited: _Waited) -> None:
        waited.waiters -= 1
        if waited.waiters == 0:
            waited.future.cancel()
            self._last_wanted = time.monotonic()
            if self._waited.get(job_id) is waited:
                del self._waited[job_id]
            if job_id in self._foreign:
                self._foreign.remove(job_id)
                self._foreign_changed = True

    @property
    def _wanted(self) -> bool:
        lately = time.monotonic() - self._last_wanted < _LINGER_S
        return not self._closed and (bool(self._waited) or lately)

    def _work(self) -> None:
        if not self._tasks or any(task.done() for task in self._tasks):
            for task in self._tasks:
                task.cancel()
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._listen()), loop.create_task(self._fetch())]

    def _ring(self, job_ids: Iterable[str]) -> None:
        self._to_fetch.update(dict.fromkeys(job_ids))
        self._rung.set()

    async def _listen(self) -> None:
        """Hear of results as they are written; after a break, subscribe anew and look at everything once."""
        while self._wanted:
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            try:
                await self._hear(pubsub)
            except (redis.RedisError, OSError):
                await asyncio.sleep(_LISTEN_S)
            finally:
                await _quietly(pubsub.aclose())  # type: ignore[no-untyped-call]

    async def _hear(self, pubsub: Any) -> None:
        subscribed = {self._channel}
        await pubsub.subscribe(self._channel)
        self._foreign_changed = True
        self._ring(self._waited)
        while self._wanted:
            if self._foreign_changed:
                subscribed = await self._follow(pubsub, subscribed)
            message = await pubsub.get_message(timeout=_LISTEN_S)
            if message:
                self._heard(message["channel"].decode(), bytes(message["data"]))

    async def _follow(self, pubsub: Any, subscribed: set[str]) -> set[str]:
        """Subscribe to the foreign jobs that are waited for now, and to no others."""
        self._foreign_changed = False
        foreign = set(self._foreign)
        wanted = {self._channel, *map(result_key, foreign)}
        if wanted - subscribed:
            await pubsub.subscribe(*(wanted - subscribed))
            self._ring(foreign)
        if subscribed - wanted:
            await pubsub.unsubscribe(*(subscribed - wanted))
        return wanted

    def _heard(self, channel: str, payload: bytes) -> None:
        if channel == self._channel:
            job_id = payload.decode(errors="replace")
            if job_id in self._waited:
                self._ring([job_id])
        else:
            self._resolve(channel.removeprefix(PREFIX), payload)

    async def _fetch(self) -> None:
        """Read the results that were announced, and every second some of those that were not."""
        next_poll = time.monotonic() + POLL_S
        answered = time.monotonic()
        while self._wanted:
            if await self._silent_until(next_poll):
                next_poll = time.monotonic() + POLL_S
                self._ring(self._next_polled())
            self._rung.clear()
            try:
                await self._fetch_waiting()
                answered = time.monotonic()
            except redis.RedisError as error:
                if time.monotonic() - answered > self._settings.broker_timeout_s:
                    self._give_up(unavailable(error, self._settings))
                await asyncio.sleep(_LISTEN_S)
                self._rung.set()

    async def _silent_until(self, moment: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, moment - time.monotonic())):
                await self._rung.wait()
        except TimeoutError:
            return True
        return False

    def _next_polled(self) -> list[str]:
        """The next ids in turn: those polled go to the end of the line."""
        polled = list(itertools.islice(self._waited, POLLED_AT_ONCE))
        for job_id in polled:
            self._waited[job_id] = self._waited.pop(job_id)
        return polled

    async def _fetch_waiting(self) -> None:
        while self._to_fetch:
            chunk = list(itertools.islice(self._to_fetch, _FETCHED_AT_ONCE))
            payloads = await self._redis.mget([result_key(job_id) for job_id in chunk])
            for job_id, payload in zip(chunk, payloads, strict=True):
                self._to_fetch.pop(job_id, None)
                if isinstance(payload, bytes):
                    self._resolve(job_id, payload)

    def _resolve(self, job_id: str, payload: bytes) -> None:
        waited = self._waited.get(job_id)
        if waited is None or waited.future.done():
            return
        try:
            result = read_meta(payload)
        except ResultUnreadable as error:
            waited.future.set_exception(error)
        else:
            if result is not None:
                waited.future.set_result(result)

    def _give_up(self, error: FleetError) -> None:
        for waited in self._waited.values():
            if not waited.future.done():
                waited.future.set_exception(error)
        self._waited.clear()
        self._to_fetch.clear()


async def _quietly(closing: Awaitable[None]) -> None:
    """Closing a connection that is already gone is no news."""
    try:
        await closing
    except (redis.RedisError, OSError):
        return
