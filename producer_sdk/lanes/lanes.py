"""The fair queue over Redis: per-tenant, fair, capped; every movement of a job is one Lua script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import redis.asyncio

from producer_sdk.contract import LANES, Crossing, Straight
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import calls, replies, scripts
from producer_sdk.lanes.keys import LaneKeys
from producer_sdk.lanes.replies import (
    Beat,
    Cancelled,
    DeadJob,
    Finished,
    LaneCounts,
    LaneState,
    PutReply,
    Swept,
    TakeReply,
    TenantQueue,
)
from producer_sdk.lanes.scripts import Argument, Call, Clock

TAGS_A_SCRIPT = 500
MOST_TAKEN = 256
FSYNC_TIMEOUT_MS = 10_000


class NotDurable(redis.TimeoutError):
    """The jobs are in the lanes, but the server did not write them to its disk in time: put them again."""


class Lanes:
    """Asyncio. `connection` must not decode responses. Every method may raise redis.RedisError, and may be repeated."""

    def __init__(
        self,
        connection: redis.asyncio.Redis,
        *,
        namespace: str = "fairlane",
        crossing: Crossing | None = None,
        clock: Clock = "server",
    ) -> None:
        self.keys = LaneKeys(namespace)
        self._redis = connection
        self._crossing = crossing or Straight()
        self._scripts = scripts.load_scripts(clock)
        self._caps: list[Argument] = []

    async def put(
        self,
        entries: Sequence[LaneEntry],
        *,
        ttl_s: int,
        depth_cap: int = 0,
        op_id: str | None = None,
        fsync: bool = False,
    ) -> list[PutReply]:
        """Put jobs into their queues in one round trip; one reply a job, in order.

        A job is remembered for `ttl_s` seconds after its end. `depth_cap` bounds how many jobs of a tenant may wait (0:
        no bound). The same `op_id` again gets the same replies. `fsync` waits until the server's log is on its disk
        (WAITAOF), and raises NotDurable when that takes too long.
        """
        each = calls.puts(
            self._scripts["put"], self.keys, entries, ttl_s=ttl_s, depth_cap=depth_cap, op_id=op_id
        )
        fsync_ms = FSYNC_TIMEOUT_MS if fsync else 0
        answers = await self._crossing.cross(
            "redis:put", lambda: scripts.run_all(self._redis, each, fsync_ms=fsync_ms)
        )
        if fsync and answers.pop()[0] < 1:
            raise NotDurable("the server did not write the jobs to its disk in time: put them again")
        rows = [row for answer in answers for row in answer]
        return [replies.put_reply(entry.job_id, row) for entry, row in zip(entries, rows, strict=True)]

    async def take(self, n: int, *, worker: str, lease_ms: int, op_id: str) -> TakeReply:
        """Up to `n` jobs (at most 256), each held by its tag until the lease ends. `op_id` is new for each take.

        The same `op_id` again gets the same tags, those still live.
        """
        if ":" in op_id:
            raise ValueError("op_id: a tag is <job id>:<op_id>, so it must not contain a colon")
        args: list[Argument] = [min(max(n, 0), MOST_TAKEN), worker, lease_ms, op_id]
        answer = await self._run("take", *args)
        if not answer[2] and self._caps:
            await self._run("set_caps", *self._caps)
        return replies.take_reply(answer, op_id=op_id)

    async def finish(self, items: Sequence[Finished]) -> list[bool]:
        """End deliveries: write their results, tell who waits, free their slots.

        False: the tag was not live any more, nothing was written. One's own finish again is True.
        """
        each = calls.finishes(self._scripts["finish"], self.keys, items)
        answers = await self._crossing.cross("redis:finish", lambda: scripts.run_all(self._redis, each))
        return [bool(one) for answer in answers for one in answer]

    async def hand_back(self, tag: str, *, delay_ms: int = 0) -> bool:
        """Back to the head of its queue, or delayed; not counted as a delivery. False: the tag was not live."""
        return bool(await self._run("hand_back", tag, max(delay_ms, 0)))

    async def move(self, tag: str, entry: LaneEntry) -> bool:
        """A retry: the job goes back under its id with a new message. False: the tag was not live."""
        call = calls.move(self._scripts["move"], self.keys, tag, entry)
        return bool(await self._crossing.cross("redis:move", lambda: scripts.run(self._redis, call)))

    async def beat(self, tags: Sequence[str], *, lease_ms: int) -> Beat:
        """Extend the leases of the tags that this worker holds; which of them it has lost, which were cancelled."""
        lost: set[str] = set()
        cancelled: set[str] = set()
        for chunk in _chunks(tags) if tags else [[]]:
            lost_numbers, cancelled_numbers = await self._run("beat", lease_ms, *chunk)
            lost.update(chunk[number - 1] for number in lost_numbers)
            cancelled.update(chunk[number - 1] for number in cancelled_numbers)
        return Beat(frozenset(lost), frozenset(cancelled))

    async def sweep(self, *, lease_ms: int, delivery_cap: int) -> Swept:
        """Bring back the jobs of workers that are gone; give up those that were lost `delivery_cap` times."""
        returned, dead, held_off = await self._run("sweep", lease_ms, delivery_cap)
        return Swept(returned, dead, held_off=bool(held_off))

    async def cancel(self, job_id: str) -> Cancelled:
        """End a job: one that waits is not called any more, the worker of a running one is told."""
        return cast("Cancelled", (await self._run("cancel", job_id)).decode())

    async def states(self, job_ids: Sequence[str]) -> list[LaneState]:
        """Where these jobs are, in order."""
        rows = [row for chunk in _chunks(job_ids) for row in await self._run("states", *chunk)]
        return [replies.lane_state(job_id, row) for job_id, row in zip(job_ids, rows, strict=True)]

    async def set_caps(self, caps: Mapping[str, int], *, default: int) -> None:
        """How many jobs of a tenant may run at once, both lanes together; replaces what was set before.

        A server that has lost them (it was flushed) is told again by the next take.
        """
        self._caps = [default, *(part for pair in caps.items() for part in pair)]
        await self._run("set_caps", *self._caps)

    async def live(self, tags: Sequence[str]) -> frozenset[str]:
        """Those of the tags that hold their jobs."""
        held = [flag for chunk in _chunks(tags) for flag in await self._run("live", *chunk)]
        return frozenset(tag for tag, flag in zip(tags, held, strict=True) if flag)

    async def depths(self) -> list[TenantQueue]:
        """Every tenant with work, in each lane, by name."""
        pages = await self._pages()
        rows = {row[0]: row for page in pages for row in page[4]}
        found = [queue for row in rows.values() for queue in replies.tenant_queues(row, LANES)]
        return sorted(found, key=lambda queue: (queue.tenant, queue.lane))

    async def counts(self) -> LaneCounts:
        """Jobs by state."""
        pages = await self._pages()
        rows = {row[0]: row for page in pages for row in page[4]}
        queues = [queue for row in rows.values() for queue in replies.tenant_queues(row, LANES)]
        _cursor, running, closing, dead, _rows = pages[-1]
        pending = sum(queue.pending for queue in queues)
        return LaneCounts(pending, sum(row[3] for row in rows.values()), running, closing, dead)

    async def _pages(self) -> list[list[Any]]:
        pages = [await self._run("depths", "0")]
        while pages[-1][0] != b"0":
            pages.append(await self._run("depths", pages[-1][0]))
        return pages

    async def dead(self, limit: int = 100) -> list[DeadJob]:
        """The jobs given up, the newest first."""
        return [replies.dead_job(row) for row in await self._run("dead", limit)]

    async def _run(self, verb: str, *args: Argument) -> Any:
        call = Call(self._scripts[verb], [self.keys.root], args)
        return await self._crossing.cross(f"redis:{verb}", lambda: scripts.run(self._redis, call))


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for i in range(0, len(items), TAGS_A_SCRIPT):
        yield items[i : i + TAGS_A_SCRIPT]
