"""The retry budget of each tenant, in Redis: count.lua's typed face, and the contents that have failed lately."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio

from producer_sdk.contract import Crossing, Straight
from worker.retries.rules import NEVER_S

DEPOSIT = 200  # a fifth of a retry for each first attempt, after Finagle's RetryBudget; thousandths
CAP = 100_000  # at most a hundred retries from the deposits of one window
WINDOW_MS = 300_000  # a deposit lives five to ten minutes
OPERATION_MS = 3_600_000  # a redelivery within an hour is not counted again
FAILED_MS = 600_000  # the same content from another job within ten minutes of a failure is a retry
FIRST, RETRY, HEDGE = range(3)


@dataclass(frozen=True)
class RetryGrant:
    """Whether a retry may be made, else when one may be; `resubmitted`: the content failed as another job."""

    allowed: bool
    retry_after_s: float = 0.0
    resubmitted: bool = False


class RetryBudget:
    """One token bucket a tenant: first attempts deposit, retries take, a floor refills by time."""

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        *,
        namespace: str = "fairlane",
        crossing: Crossing | None = None,
        told: Callable[[str, bool], None] | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """`told`: of each retry, who makes it ("celery", "resubmission", "fallback", "hedge") and whether it was paid.

        `now_ms` replaces the server's clock, in tests only.
        """
        self._redis = redis
        self._namespace = namespace
        self._crossing = crossing or Straight()
        self._told = told or (lambda _by, _is_paid: None)
        self._now_ms = now_ms
        self._count = redis.register_script((Path(__file__).parent / "count.lua").read_text())

    async def begin(
        self, tenant: str, *, job_id: str, retries: int, content: str, floor_per_min: int
    ) -> RetryGrant:
        """Count a job that starts: a retry if Celery or a resubmission repeats it, else a first attempt."""
        keys = [
            self._bucket(tenant),
            self._operation(tenant, f"{job_id}:{retries}"),
            self._failed(tenant, content),
        ]
        grant = await self._counted(keys, floor_per_min, job_id, kind=RETRY if retries > 0 else FIRST)
        if retries > 0 or grant.resubmitted:
            self._told("celery" if retries > 0 else "resubmission", grant.allowed)
        return grant

    async def take(
        self, tenant: str, op_id: str, floor_per_min: int, *, is_hedge: bool = False
    ) -> RetryGrant:
        """Take the token for one retry, once per operation id; a hedge leaves half of the floor to what has failed."""
        keys = [self._bucket(tenant), self._operation(tenant, op_id)]
        grant = await self._counted(keys, floor_per_min, "", kind=HEDGE if is_hedge else RETRY)
        self._told("hedge" if is_hedge else "fallback", grant.allowed)
        return grant

    async def remember_failure(self, tenant: str, *, job_id: str, content: str) -> None:
        """This content has failed as this job."""
        key = self._failed(tenant, content)
        await self._crossing.cross("redis:retry_failed", lambda: self._redis.set(key, job_id, px=FAILED_MS))

    async def forget_failure(self, tenant: str, *, content: str) -> None:
        """This content has been answered now."""
        key = self._failed(tenant, content)
        await self._crossing.cross("redis:retry_forget", lambda: self._redis.delete(key))

    async def _counted(self, keys: list[str], floor_per_min: int, job_id: str, *, kind: int) -> RetryGrant:
        now = self._now_ms() if self._now_ms else ""
        args: list[str | int] = [
            floor_per_min,
            job_id,
            kind,
            DEPOSIT,
            CAP,
            WINDOW_MS,
            OPERATION_MS,
            now,
        ]

        async def count() -> Any:
            return await self._count(keys=keys, args=args)

        allowed, wait_ms, resubmitted = await self._crossing.cross("redis:retry_count", count)
        after_s = NEVER_S if wait_ms < 0 else math.ceil(wait_ms) / 1000
        return RetryGrant(bool(allowed), after_s, resubmitted == b"1")

    def _bucket(self, tenant: str) -> str:
        return f"{self._namespace}:{{retry:{tenant}}}:bucket"

    def _operation(self, tenant: str, op_id: str) -> str:
        return f"{self._namespace}:{{retry:{tenant}}}:op:{op_id}"

    def _failed(self, tenant: str, content: str) -> str:
        return f"{self._namespace}:{{retry:{tenant}}}:failed:{content}"
