"""The fair queue over Redis: per-tenant, fair, limited; every movement of a job is one Lua script."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import redis.asyncio

from producer_sdk.contract import LANES, Crossing, Straight
from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import calls, replies, scripts
from producer_sdk.lanes.keys import LaneKeys, Shards
from producer_sdk.lanes.limits import Limits
from producer_sdk.lanes.replies import (
    Appended,
    Beat,
    Cancelled,
    DeadJob,
    Finished,
    JobLook,
    LaneCounts,
    LaneState,
    Pause,
    PutReply,
    Swept,
    TakeReply,
    TenantQueue,
)
from producer_sdk.lanes.scripts import Argument, Call, Clock

TAGS_A_SCRIPT = 500
MOST_TAKEN = 256
DEAD_A_SCRIPT = 500
HURRIED_A_SCRIPT, MOST_HURRIES = 1000, 1000


class NotDurable(redis.TimeoutError):
    """The jobs are in the lanes, but the server did not write them to its disk in time: put them again."""


class WrongShards(Exception):
    """The fleet's lanes have another number of shards than this process was told."""

    def __init__(self, found: int) -> None:
        super().__init__(f"the fleet's lanes have {found} shards: set FAIRLANE_LANE_SHARDS={found}")
        self.found = found


class Lanes:
    """Asyncio. `connection` must not decode responses. Every method may raise redis.RedisError, and may be repeated."""

    def __init__(
        self,
        connection: redis.asyncio.Redis,
        *,
        namespace: str = "fairlane",
        shards: int = 1,
        crossing: Crossing | None = None,
        clock: Clock = "server",
    ) -> None:
        self.shards = Shards(namespace, shards)
        self.keys = LaneKeys(namespace)
        self._redis = connection
        self._crossing = crossing or Straight()
        self._scripts = scripts.load_scripts(clock)
        self._limits: Limits | None = None
        self._has_agreed = False

    async def put(
        self,
        entries: Sequence[LaneEntry],
        *,
        ttl_s: int,
        inside: bool = False,
        op_id: str | None = None,
        fsync_ms: int = 0,
    ) -> list[PutReply]:
        """Put jobs into their queues in one round trip; one reply a job, in order.

        A job is remembered for `ttl_s` seconds after its end. `inside`: put by other jobs, so they go in however
        deep their queue is. The same `op_id` again gets the same replies. `fsync_ms`: for so long it waits until
        the server's log is on its disk (WAITAOF), or raises NotDurable. Raises WrongShards.
        """
        await self.agree()
        options = calls.PutOptions(ttl_s=ttl_s, inside=inside, op_id=op_id)
        parts = calls.puts(self._scripts["put"], self.shards, entries, options)
        try:
            answers = await self._run_all("put", [call for _places, call in parts], fsync_ms=fsync_ms)
        except redis.ResponseError as error:
            raise wrong_shards(error) from error
        if fsync_ms and answers.pop()[0] < 1:
            raise NotDurable("the server did not write the jobs to its disk in time: put them again")
        rows = calls.in_order([(part[0], answer) for part, answer in zip(parts, answers, strict=True)])
        return [replies.put_reply(entry.job_id, row) for entry, row in zip(entries, rows, strict=True)]

    async def take(self, n: int, *, worker: str, lease_ms: int, op_id: str) -> TakeReply:
        """Up to `n` jobs (at most 256), each held by its tag until the lease ends. `op_id` is new for each take.

        The same `op_id` again gets the same tags, those still live. Shards are asked one after the other until `n` are
        given, from one that the operation's id decides: the same one when it is repeated.
        """
        if ":" in op_id:
            raise ValueError("op_id: a tag is <job id>:<op_id>, so it must not contain a colon")
        n, first = min(max(n, 0), MOST_TAKEN), zlib.crc32(op_id.encode())
        found: list[TakeReply] = []
        for turn in range(self.shards.count):
            keys = self.shards.all[(first + turn) % self.shards.count]
            operation = self.shards.operation(op_id, keys.shard)
            left = n - sum(len(reply.deliveries) for reply in found)
            answer = await self._run("take", keys, left, worker, lease_ms, operation)
            if not answer[2] and self._limits:
                await self._set_limits(keys, self._limits)
            found.append(replies.take_reply(answer, op_id=operation))
            if len(found[-1].deliveries) == left:
                break
        return replies.together(found)

    async def finish(self, items: Sequence[Finished]) -> list[bool]:
        """End deliveries: write their results, tell who waits, free their slots, correct what they were charged.

        False: the tag was not live any more, nothing was written. One's own finish again is True.
        """
        parts = calls.finishes(self._scripts["finish"], self.shards, items)
        answers = await self._run_all("finish", [call for _places, call in parts])
        told = calls.in_order([(part[0], answer) for part, answer in zip(parts, answers, strict=True)])
        return [bool(one) for one in told]

    async def append(self, items: Sequence[Appended]) -> list[bool]:
        """Add to the streams of held jobs. False: the tag was not live any more, nothing was written.

        One's own append again, under the same number, is True and does nothing.
        """
        parts = calls.appends(self._scripts["append"], self.shards, items)
        answers = await self._run_all("append", [call for _places, call in parts])
        told = calls.in_order([(part[0], answer) for part, answer in zip(parts, answers, strict=True)])
        return [bool(one) for one in told]

    async def hand_back(self, tag: str, *, delay_ms: int = 0, story: str = "") -> bool:
        """Back to the head of its queue, or delayed; not counted as a delivery. False: the tag was not live.

        `story`: what workers have noted of the job; the next one is told it.
        """
        return bool(await self._run("hand_back", self.shards.of_tag(tag), tag, max(delay_ms, 0), story))

    async def move(self, tag: str, entry: LaneEntry, *, story: str = "") -> bool:
        """A retry: the job goes back under its id with a new message. False: the tag was not live."""
        call = calls.move(self._scripts["move"], self.shards, tag, entry, story=story)
        return bool((await self._run_all("move", [call]))[0])

    async def beat(self, tags: Sequence[str], *, lease_ms: int) -> Beat:
        """Extend the leases of the tags that this worker holds; which of them it has lost, which were cancelled."""
        lost: set[str] = set()
        cancelled: set[str] = set()
        held_off = False
        by_shard = self._by_shard(tags)
        for keys in self.shards.all:
            for chunk in _chunks(by_shard[keys]) or [[]]:
                lost_numbers, cancelled_numbers, is_off = await self._run("beat", keys, lease_ms, *chunk)
                held_off = held_off or bool(is_off)
                lost.update(chunk[number - 1] for number in lost_numbers)
                cancelled.update(chunk[number - 1] for number in cancelled_numbers)
        return Beat(frozenset(lost), frozenset(cancelled), held_off=held_off)

    async def sweep(self, *, lease_ms: int, delivery_cap: int) -> Swept:
        """Bring back the jobs of workers that are gone; give up those that were lost `delivery_cap` times."""
        swept = [await self._run("sweep", keys, lease_ms, delivery_cap) for keys in self.shards.all]
        returned, dead, held_off = (sum(counts) for counts in zip(*swept, strict=True))
        return Swept(returned, dead, held_off=bool(held_off))

    async def cancel(self, job_id: str) -> Cancelled:
        """End a job: one that waits is not called any more, the worker of a running one is told."""
        answers = [(await self._run("cancel", keys, job_id)).decode() for keys in self.shards.all]
        return cast("Cancelled", next((answer for answer in answers if answer != "unknown"), "unknown"))

    async def states(self, job_ids: Sequence[str]) -> list[LaneState]:
        """Where these jobs are, in order."""
        rows = [[b"unknown", b"", b"", 0] for _ in job_ids]
        for keys in self.shards.all:
            told = [row for chunk in _chunks(job_ids) for row in await self._run("states", keys, *chunk)]
            rows = [new if new[0] != b"unknown" else old for old, new in zip(rows, told, strict=True)]
        return [replies.lane_state(job_id, row) for job_id, row in zip(job_ids, rows, strict=True)]

    async def look(self, job_id: str) -> JobLook | None:
        """One job and what it waits for now; None where no lane knows it."""
        found = [replies.job_look(await self._run("look", keys, job_id)) for keys in self.shards.all]
        return next((job for job in found if job is not None), None)

    async def set_limits(self, limits: Limits) -> None:
        """What every tenant may do; replaces what was set before, also for jobs that wait already.

        A server that has lost them (it was flushed) is told again by the next take.
        """
        self._limits = limits
        for keys in self.shards.all:
            await self._set_limits(keys, limits)

    async def _set_limits(self, keys: LaneKeys, limits: Limits) -> None:
        for page in limits.pages():
            if await self._run("set_limits", keys, *page):
                return

    async def agree(self, *, change_from: int = 0) -> None:
        """Make sure that all of the fleet know the same number of shards, or change it. Raises WrongShards.

        Only empty lanes may be changed: tenants are elsewhere then. Who knows the old number is refused from then on.
        """
        if self._has_agreed and not change_from:
            return
        each = calls.agrees(self._scripts["agree"], self.shards, change_from=change_from)
        found: list[int] = await self._run_all("agree", each)
        for number in found:
            if number != self.shards.count:
                raise WrongShards(number)
        self._has_agreed = True

    async def pause(self, tenant: str, *, for_ms: int = 0, reason: str = "") -> int:
        """Hand out none of a tenant's jobs for so long (0: until it is resumed); what runs goes on.

        Until when, in Unix ms of the server's clock; 0 likewise.
        """
        return int(await self._run("pause", self.shards.of_tenant(tenant), tenant, max(for_ms, 0), reason))

    async def resume(self, tenant: str) -> bool:
        """Let a paused tenant go on. False: it was not paused."""
        return bool(await self._run("resume", self.shards.of_tenant(tenant), tenant))

    async def hurry(self, tenant: str) -> int:
        """Let a tenant's jobs that were handed back with a delay go at once; how many."""
        total, passed = 0, 0
        for _ in range(MOST_HURRIES):
            hurried, kept = await self._run("hurry", self.shards.of_tenant(tenant), tenant, passed)
            total, passed = total + hurried, passed + kept
            if hurried + kept < HURRIED_A_SCRIPT:
                break
        return total

    async def pauses(self) -> list[Pause]:
        """Who is paused, by name."""
        rows = [row for keys in self.shards.all for row in await self._run("pauses", keys)]
        found = [replies.pause(tenant, said) for tenant, said in zip(rows[::2], rows[1::2], strict=True)]
        return sorted(found, key=lambda pause: pause.tenant)

    async def live(self, tags: Sequence[str]) -> frozenset[str]:
        """Those of the tags that hold their jobs."""
        found: set[str] = set()
        for keys, own in self._by_shard(tags).items():
            held = [flag for chunk in _chunks(own) for flag in await self._run("live", keys, *chunk)]
            found.update(tag for tag, flag in zip(own, held, strict=True) if flag)
        return frozenset(found)

    async def depths(self) -> list[TenantQueue]:
        """Every tenant with work, in each lane, by name."""
        rows = {
            row[0]: row for keys in self.shards.all for page in await self._pages(keys) for row in page[4]
        }
        found = [queue for row in rows.values() for queue in replies.tenant_queues(row, LANES)]
        return sorted(found, key=lambda queue: (queue.tenant, queue.lane))

    async def counts(self) -> LaneCounts:
        """Jobs by state."""
        pages = [await self._pages(keys) for keys in self.shards.all]
        rows = {row[0]: row for shard in pages for page in shard for row in page[4]}
        queues = [queue for row in rows.values() for queue in replies.tenant_queues(row, LANES)]
        running, closing, dead = (sum(shard[-1][at] for shard in pages) for at in (1, 2, 3))
        pending = sum(queue.pending for queue in queues)
        return LaneCounts(pending, sum(row[3] for row in rows.values()), running, closing, dead)

    async def _pages(self, keys: LaneKeys) -> list[list[Any]]:
        pages = [await self._run("depths", keys, "0")]
        while pages[-1][0] != b"0":
            pages.append(await self._run("depths", keys, pages[-1][0]))
        return pages

    async def dead(self, limit: int = 100, *, tenant: str | None = None) -> list[DeadJob]:
        """The jobs given up, the newest first; of one tenant where it is named."""
        found: list[DeadJob] = []
        for keys in self.shards.all:
            offset = count = 0
            of_shard: list[DeadJob] = []
            while offset <= count and len(of_shard) < limit:
                count, rows = await self._run("dead", keys, offset, DEAD_A_SCRIPT)
                jobs = [replies.dead_job(row) for row in rows]
                of_shard += [job for job in jobs if tenant in (None, job.tenant)]
                offset += DEAD_A_SCRIPT
            found += of_shard
        return sorted(found, key=lambda job: -job.since_ms)[:limit]

    async def dead_message(self, job_id: str) -> bytes | None:
        """A dead job's message as it was put; None where no such job is listed."""
        found = [await self._run("dead_message", keys, job_id) for keys in self.shards.all]
        return next((message for message in found if message is not None), None)

    async def discard(self, job_ids: Sequence[str]) -> int:
        """Take dead jobs off their list; how many were on it."""
        each = [(keys, chunk) for keys in self.shards.all for chunk in _chunks(job_ids)]
        return sum([await self._run("discard", keys, *chunk) for keys, chunk in each])

    def _by_shard(self, tags: Sequence[str]) -> dict[LaneKeys, list[str]]:
        found: dict[LaneKeys, list[str]] = defaultdict(list)
        for tag in tags:
            found[self.shards.of_tag(tag)].append(tag)
        return found

    async def _run(self, verb: str, keys: LaneKeys, *args: Argument) -> Any:
        call = Call(self._scripts[verb], [keys.root], args)
        return await self._crossing.cross(f"redis:{verb}", lambda: scripts.run(self._redis, call))

    async def _run_all(self, verb: str, each: Sequence[Call], *, fsync_ms: int = 0) -> list[Any]:
        return await self._crossing.cross(
            f"redis:{verb}",
            lambda: scripts.run_all(self._redis, each, fsync_ms=fsync_ms, fsync_key=self.keys.root + "fsync"),
        )


def wrong_shards(error: redis.ResponseError) -> Exception:
    """What a server's refusal of a put means."""
    code, _, found = str(error).partition(" ")
    return WrongShards(int(found)) if code == "WRONGSHARDS" else error


def _chunks(items: Sequence[str]) -> list[Sequence[str]]:
    return [items[i : i + TAGS_A_SCRIPT] for i in range(0, len(items), TAGS_A_SCRIPT)]
