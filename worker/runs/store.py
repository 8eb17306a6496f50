"""Runs in Redis: what each has had, which of its jobs are under way, and whether it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis.asyncio

from producer_sdk.contract import Crossing, Straight
from worker.routing_file import Tier
from worker.runs.rules import Cap, Met, Sameness

LIFE_MS = 86_400_000  # counts of a run live for a day after its last job, and longer where its wall time is
STOPPED_MS = 7 * 86_400_000
MOST_REQUESTS = 10_000  # different ones that are remembered of a run; what comes later is not compared
MOST_JOBS = 10_000  # under way that a stop finds; older ones end when they are delivered again
MOST_WHY = 256


@dataclass(frozen=True)
class Stopped:
    """A run that was stopped: until when (Unix ms) its jobs are refused, and those that had begun."""

    until_ms: int
    job_ids: tuple[str, ...]


@dataclass(frozen=True)
class Unknown:
    """These of a job's runs are not known here."""

    runs: tuple[str, ...]


def life_ms(tier: Tier) -> int:
    """For how long a run is known after its last job."""
    return LIFE_MS + 1000 * (tier.run_max_seconds or 0)


class Runs:
    """What all workers know of a tenant's runs. Every method may raise redis.RedisError, and may be repeated.

    Keys, all under the tag `{run:<tenant>}`: `counts:<run>`, `requests:<run>` and `jobs:<run>`, which live for LIFE_MS
    after the run's last job, and `stopped:<run>`, for STOPPED_MS.
    """

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        *,
        namespace: str = "fairlane",
        crossing: Crossing | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """`now_ms` replaces the server's clock, in tests only."""
        self._redis = redis
        self._namespace = namespace
        self._crossing = crossing or Straight()
        self._now_ms = now_ms
        here = Path(__file__).parent
        self._begin = redis.register_script((here / "begin.lua").read_text())
        self._seed = redis.register_script((here / "seed.lua").read_text())
        self._stop = redis.register_script((here / "stop.lua").read_text())

    async def begin(
        self,
        tenant: str,
        runs: Sequence[str],
        *,
        job_id: str,
        put_ms: int,
        tier: Tier,
        sameness: Sameness | None,
        are_new: bool = False,
    ) -> Met | Unknown | int | None:
        """Count a job into these runs, its own first, once; or the cap that it meets. `sameness`: None is compared.

        Returns how many more jobs all of them may have, None where that has no cap. Unknown: some of the runs
        are not known here, and nothing was counted; `are_new`: then they are new ones.
        """
        which = ("counts", "requests", "jobs", "stopped")
        keys = [self._key(tenant, name, run) for run in runs for name in which]
        caps = [tier.run_max_calls or 0, tier.run_max_seconds or 0]
        compared: list[str | int] = ["", "", 0]
        if sameness is not None:
            compared = [sameness.request, sameness.turns or "", sameness.messages]
        most_repeats = (tier.run_max_repeats or 0) if sameness is not None else 0
        bounds: list[str | int] = [life_ms(tier), MOST_REQUESTS, MOST_JOBS, int(are_new), self._now()]
        args: list[str | int] = [job_id, put_ms, *caps, most_repeats, *compared, *bounds]

        async def begin() -> Any:
            return await self._begin(keys=keys, args=args)

        cap, number, mark, was_before = await self._crossing.cross("redis:run_begin", begin)
        if not cap:
            return number if number >= 0 else None
        if cap == b"unknown":
            return Unknown(tuple(runs[int(number) - 1] for number in mark.split()))
        why = mark.decode(errors="replace").partition(" ")[2]
        return Met(cast("Cap", cap.decode()), runs[number - 1], why, was_put_before=bool(was_before))

    async def seed(
        self,
        tenant: str,
        run_id: str,
        *,
        tier: Tier,
        began_ms: int,
        calls: int,
        requests: Mapping[str, tuple[int, int]],
        job_ids: Sequence[str],
    ) -> None:
        """Count on from what the ledger knows of a run, unless the run is known here."""
        keys = [self._key(tenant, which, run_id) for which in ("counts", "requests", "jobs")]
        known = list(requests.items())[:MOST_REQUESTS]
        pairs = [word for digest, (times, last) in known for word in (digest, f"{times} {last}")]
        args: list[str | int] = [life_ms(tier), began_ms, calls, len(known), *pairs, *job_ids]

        async def seed() -> Any:
            return await self._seed(keys=keys, args=args)

        await self._crossing.cross("redis:run_seed", seed)

    async def end(self, tenant: str, runs: Sequence[str], *, job_id: str) -> None:
        """The job is under way no more."""

        async def remove() -> None:
            pipeline = self._redis.pipeline(transaction=False)
            for run in runs:
                pipeline.zrem(self._key(tenant, "jobs", run), job_id)
            await pipeline.execute()

        await self._crossing.cross("redis:run_end", remove)

    async def stop(self, tenant: str, run_id: str, *, why: str = "") -> Stopped:
        """Refuse the run's jobs and those of the runs below it."""
        keys = [self._key(tenant, "stopped", run_id), self._key(tenant, "jobs", run_id)]
        until_ms, jobs = await self._stop(keys=keys, args=[why[:MOST_WHY], STOPPED_MS, self._now()])
        return Stopped(until_ms, tuple(job.decode() for job in jobs))

    def _now(self) -> int | str:
        return self._now_ms() if self._now_ms else ""

    def _key(self, tenant: str, which: str, run_id: str) -> str:
        return f"{self._namespace}:{{run:{tenant}}}:{which}:{run_id}"
