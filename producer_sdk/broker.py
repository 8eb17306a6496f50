"""The broker as the SDK reaches it: bounded patience, and one sentence for each way in which it says no."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from producer_sdk.errors import BrokerUnavailable, SettingsError
from producer_sdk.lanes import NotDurable, WrongShards
from producer_sdk.settings import FleetSettings, redis_url

T = TypeVar("T")
_CONNECTIONS = 16
_LONGEST_PAUSE_S = 0.5
NO_FSYNC = (
    'the broker keeps no append-only file, so it cannot promise durability="fsync": start it with '
    "`--appendonly yes`, or submit with the default durability"
)


def connect(settings: FleetSettings, *, connections: int = _CONNECTIONS) -> redis.asyncio.Redis:
    """An asyncio client whose every wait has a limit. It never repeats anything itself: `ask` does."""
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
        redis_url(settings.broker_url),
        max_connections=connections,
        timeout=settings.broker_timeout_s,
        socket_timeout=settings.broker_timeout_s,
        socket_connect_timeout=settings.broker_timeout_s,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 0),
    )
    return redis.asyncio.Redis.from_pool(pool)


async def ask(call: Callable[[], Awaitable[T]], settings: FleetSettings) -> T:
    """What the broker answers; `call` is repeated while no connection stands, so it must be safe to repeat.

    Raises BrokerUnavailable, after at most `broker_timeout_s` and one socket timeout; SettingsError where the fleet has
    another number of shards.
    """
    end, pause = time.monotonic() + settings.broker_timeout_s, 0.05
    while True:
        try:
            return await call()
        except WrongShards as error:
            raise SettingsError(str(error)) from error
        except redis.RedisError as error:
            if not may_pass(error) or time.monotonic() + pause > end:
                raise unavailable(error, settings) from error
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


async def check_fsync(client: redis.asyncio.Redis) -> None:
    """Ask before anything is put. Raises BrokerUnavailable where the server writes no log that could be waited for."""
    try:
        await client.waitaof(1, 0, 1)
    except redis.ResponseError as error:
        raise BrokerUnavailable(NO_FSYNC) from error


def may_pass(error: redis.RedisError) -> bool:
    """Whether trying again soon can help: a connection is missing, or the server is still loading its data."""
    return isinstance(error, redis.ConnectionError) and not isinstance(error, redis.AuthenticationError)


def unavailable(error: redis.RedisError, settings: FleetSettings) -> BrokerUnavailable:
    """The error to raise, with a sentence that says what to do."""
    return BrokerUnavailable(_sentence(error, _place(settings.broker_url)))


def _sentence(error: redis.RedisError, place: str) -> str:
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return f"the broker at {place} is out of memory and takes no jobs: raise its maxmemory or drain its lanes"
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return f"the broker at {place} refuses this user or password: check FAIRLANE_BROKER_URL"
    if isinstance(error, redis.ReadOnlyError):
        return f"the broker at {place} is a replica that takes no writes: name the primary in FAIRLANE_BROKER_URL"
    if isinstance(error, redis.ConnectionError):
        start = "start it with `fairlane up`" if place.startswith("/") else "start it"
        return f"no broker answers at {place}: {start}, or name another one in FAIRLANE_BROKER_URL"
    if isinstance(error, NotDurable):
        return (
            f"the broker at {place} did not write to its disk in time: what was sent may still be carried out"
        )
    if isinstance(error, redis.TimeoutError):
        return f"the broker at {place} did not answer in time: what was sent may still be carried out"
    return f"the broker at {place} refused the command ({str(error).split(' ')[0]}): see its log"


def _place(url: str) -> str:
    """Where the broker is, without user and password."""
    parts = urlsplit(url)
    if not parts.hostname:
        return parts.path
    return f"{parts.hostname}:{parts.port or 6379}"
