"""One event loop's connections to the fleet: puts jobs, waits for results, asks for states, cancels."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

from producer_sdk.batch import Packer, Prepared, Receipt, receipt_of
from producer_sdk.broker import ask, check_fsync, connect
from producer_sdk.contract import (
    Crossing,
    ErrorCode,
    JobError,
    JobResult,
    JobStatus,
    Straight,
    StreamEvent,
    uuid7,
)
from producer_sdk.contract.envelope import BadMessage, LaneEntry, replay_of
from producer_sdk.errors import FleetError, ResultTimeout, UnknownJob
from producer_sdk.lanes import DeadJob, Lanes, PutReply
from producer_sdk.result_meta import read_meta, result_key
from producer_sdk.settings import FleetSettings
from producer_sdk.stream_place import StreamPlace
from producer_sdk.stream_reads import Followed, StreamReads
from producer_sdk.waiting import Replies

Cancelled = Literal["pending", "running", "finished"]
JobState = JobStatus | Literal["pending", "delayed", "running", "closing", "finished", "dead", "unknown"]
FSYNC_SHARE = 0.8  # of what the connection itself waits for an answer
_SHORTEST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Link:
    """What Fleet and AsyncFleet share. Belongs to the event loop that first uses it."""

    def __init__(self, settings: FleetSettings, crossing: Crossing | None = None) -> None:
        self.settings = settings
        self.client_id = uuid7().hex
        self._redis = connect(settings)
        self.lanes = Lanes(
            self._redis,
            namespace=settings.namespace,
            shards=settings.lane_shards,
            crossing=crossing or Straight(),
        )
        self._replies = Replies(
            self._redis, channel=self.lanes.keys.replies(self.client_id), settings=settings
        )
        self._streams = StreamReads(self._redis, settings)
        self.packer = Packer(reply_to=self.client_id, signing_key=settings.producer_key)

    async def put(
        self, prepared: Sequence[Prepared], *, wait_s: float, inside: bool = False
    ) -> list[Receipt]:
        """One answer per job, in order. For `wait_s` seconds it waits for room in a tenant's full queue.

        `inside`: however full it is. Raises BrokerUnavailable.
        """
        replies: dict[int, PutReply] = {}
        left = {place: one.entry for place, one in enumerate(prepared) if one.entry}
        fsync = any(one.fsync for one in prepared)
        end, pause = time.monotonic() + wait_s, _SHORTEST_PAUSE_S
        while left:
            answers = await self._put(list(left.values()), fsync=fsync, inside=inside)
            replies.update(zip(left, answers, strict=True))
            full = {place: entry for place, entry in left.items() if replies[place].outcome == "queue_full"}
            pause = _SHORTEST_PAUSE_S if len(full) < len(left) else min(2 * pause, _LONGEST_PAUSE_S)
            left = full
            if time.monotonic() + pause > end:
                break
            if left:
                await asyncio.sleep(pause)
        receipts = enumerate(prepared)
        return [receipt_of(one, replies.get(place), reply_to=self.client_id) for place, one in receipts]

    async def _put(self, entries: list[LaneEntry], *, fsync: bool, inside: bool) -> list[PutReply]:
        settings, op_id = self.settings, uuid7().hex
        fsync_ms = int(1000 * FSYNC_SHARE * settings.broker_timeout_s) if fsync else 0
        if fsync:
            await ask(lambda: check_fsync(self._redis), settings)
        return await ask(
            lambda: self.lanes.put(
                entries, ttl_s=settings.result_ttl_s, op_id=op_id, fsync_ms=fsync_ms, inside=inside
            ),
            settings,
        )

    async def wait(self, receipt: Receipt, *, timeout_s: float) -> JobResult:
        """How the job ended, whatever its status. Raises ResultTimeout, BrokerUnavailable, ResultUnreadable."""
        if receipt.refused:
            return receipt.refused
        try:
            return await self._replies.result(
                str(receipt.job_id), own=self._is_own(receipt), timeout_s=timeout_s
            )
        except TimeoutError:
            raise ResultTimeout(_late(1, timeout_s)) from None

    async def completed(
        self, receipts: Sequence[Receipt], *, timeout_s: float
    ) -> AsyncGenerator[dict[uuid.UUID, JobResult | FleetError], None]:
        """Each job once, as it ends, with others that have. Raises ResultTimeout, naming how many are left."""
        waiting: dict[str, bool] = {}
        for receipt in receipts:
            job_id = str(receipt.job_id)
            waiting[job_id] = waiting.get(job_id, False) or self._is_own(receipt)
        left = len(waiting)
        try:
            async with aclosing(self._replies.completed(waiting, timeout_s=timeout_s)) as steps:
                async for ended in steps:
                    left -= len(ended)
                    yield {uuid.UUID(job_id): outcome for job_id, outcome in ended.items()}
        except TimeoutError:
            raise ResultTimeout(_late(left, timeout_s)) from None

    async def stream(
        self, receipt: Receipt, *, after: str, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """The job's answer as it comes, to its end. What of it is gone is told anew, from the result.

        Raises ResultTimeout, BrokerUnavailable, ResultUnreadable, and ValueError for an `after` that is no event's id.
        """
        place = StreamPlace(after)
        if receipt.refused:
            for event in place.mended(receipt.refused):
                yield event
            return
        key = self.lanes.keys.stream(str(receipt.job_id))
        async with self._followed(receipt, key, place, timeout_s=timeout_s) as (followed, result):
            while not place.is_over:
                come = await self._streams.next(followed)
                entries = [come] if come else await self._streams.rest(key, place.last)
                for at, entry in entries:
                    if told := place.take(at, entry):
                        yield told
                if come is None:
                    break
            if not place.is_told:
                for mended in place.mended(await result):
                    yield mended

    @asynccontextmanager
    async def _followed(
        self, receipt: Receipt, key: str, place: StreamPlace, *, timeout_s: float
    ) -> AsyncIterator[tuple[Followed, asyncio.Task[JobResult]]]:
        """The stream, and the result beside it: a job may end without a stream, and a stream may be gone."""
        followed = self._streams.follow(key, place.last)
        result = asyncio.create_task(self.wait(receipt, timeout_s=timeout_s))
        result.add_done_callback(lambda _result: followed.come.put_nowait(None))
        try:
            yield followed, result
        finally:
            self._streams.leave(followed)
            result.cancel()
            await asyncio.gather(result, return_exceptions=True)

    def _is_own(self, receipt: Receipt) -> bool:
        """Whether the job's end will be announced on this process's own channel."""
        return receipt.outcome == "accepted" and receipt.reply_to == self.client_id

    async def status(self, job_id: uuid.UUID) -> JobState:
        """The status that the job ended with, else where it is in its lane."""
        payload = await ask(lambda: self._redis.get(result_key(str(job_id))), self.settings)
        ended = read_meta(payload) if isinstance(payload, bytes) else None
        if ended:
            return ended.status
        states = await ask(lambda: self.lanes.states([str(job_id)]), self.settings)
        return states[0].state

    async def find(self, job_id: uuid.UUID) -> Receipt:
        """A receipt for a job of any process. Raises UnknownJob."""
        if await self.status(job_id) == "unknown":
            raise _unknown(job_id)
        return Receipt(job_id, "found")

    async def cancel(self, job_id: uuid.UUID) -> Cancelled:
        """Where the job was when it was told to end: "finished" means too late. Raises UnknownJob."""
        was = await ask(lambda: self.lanes.cancel(str(job_id)), self.settings)
        if was == "unknown":
            raise _unknown(job_id)
        return was

    async def dead_letters(self, *, limit: int, tenant: str | None) -> list[DeadJob]:
        """The jobs that the lanes gave up, the newest first."""
        return await ask(lambda: self.lanes.dead(limit, tenant=tenant), self.settings)

    async def dead_message(self, job_id: str) -> bytes:
        """A dead letter's message as it came. Raises UnknownJob."""
        message = await ask(lambda: self.lanes.dead_message(job_id), self.settings)
        if message is None:
            raise UnknownJob(f"there is no dead letter {job_id}: `fairlane dead list` shows those there are")
        return message

    async def replay(self, job_id: uuid.UUID) -> Receipt:
        """Put a dead letter into its lane once more, as a job of its own; off the list when it was accepted."""
        try:
            job = replay_of(
                await self.dead_message(str(job_id)), now=datetime.now(UTC), key=self.settings.producer_key
            )
        except BadMessage as error:
            sentence = f"{error}: it cannot be replayed, take it off the list with `fairlane dead purge`"
            return Receipt(job_id, "refused", JobError.of(ErrorCode.INVALID_JOB, sentence))
        [receipt] = await self.put([self.packer.prepare(job)], wait_s=0.0)
        if not receipt.refused:
            await self.discard([str(job_id)])
        return receipt

    async def discard(self, job_ids: Sequence[str]) -> int:
        """Take dead letters off their list; how many were on it."""
        return await ask(lambda: self.lanes.discard(job_ids), self.settings)

    async def close(self) -> None:
        """Close every connection; whoever still waits is told."""
        await self._streams.close()
        await self._replies.close()
        await self._redis.aclose()


def as_id(job_id: uuid.UUID | str) -> uuid.UUID:
    """A job's id from its text. Raises UnknownJob."""
    try:
        return job_id if isinstance(job_id, uuid.UUID) else uuid.UUID(job_id)
    except ValueError:
        raise UnknownJob(
            "this is not a job's id, which is a UUID: use the job_id of a handle or a result"
        ) from None


def _unknown(job_id: uuid.UUID) -> UnknownJob:
    return UnknownJob(
        f"the fleet knows no job {job_id}: it was never submitted here, its result has expired, or the broker has lost "
        'its memory, and with it what had not begun (an append-only file, and durability="fsync", keep that)'
    )


def _late(jobs: int, timeout_s: float) -> str:
    what = "the result was" if jobs == 1 else f"{jobs} results were"
    return f"{what} not there within {timeout_s:g} s: the work goes on, ask again or cancel it"
