"""Following an answer as it comes: over a real Valkey, with a worker that says what the test tells it to."""

from __future__ import annotations

import asyncio
import threading
import uuid
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from producer_sdk import (
    AsyncFleet,
    AsyncJobHandle,
    BrokerUnavailable,
    Fleet,
    FleetSettings,
    JobResult,
    ResultTimeout,
    StreamEvent,
)
from producer_sdk.contract.envelope import unpack
from producer_sdk.lanes import Appended, Delivery, Finished, Lanes
from producer_sdk.stream_reads import MOST_UNREAD
from tests.producer_sdk.fake_worker import WIDE, FakeWorker, success_meta
from tests.servers import Valkey

ASK: dict[str, Any] = {"task": "classify", "tenant": "acme", "messages": "Where is my card?"}


class Speaker:
    """The worker's side: takes a job, says words in its stream, ends it."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self._appends: dict[str, int] = {}
        self._said: dict[str, int] = {}

    async def take(self, n: int = 1) -> list[Delivery]:
        reply = await self.lanes.take(n, worker="w", lease_ms=60_000, op_id=uuid.uuid4().hex)
        assert len(reply.deliveries) == n
        return list(reply.deliveries)

    async def begin(self, delivery: Delivery, attempt: int = 1) -> None:
        self._said[delivery.tag] = 0
        await self._append(delivery, StreamEvent(kind="begin", attempt=attempt))

    async def say(self, delivery: Delivery, *words: str) -> None:
        events = []
        for word in words:
            events.append(StreamEvent(kind="text", attempt=1, at=self._said[delivery.tag], text=word))
            self._said[delivery.tag] += len(word)
        await self._append(delivery, *events)

    async def _append(self, delivery: Delivery, *events: StreamEvent) -> None:
        number = self._appends[delivery.tag] = self._appends.get(delivery.tag, 0) + 1
        written = tuple(event.written() for event in events)
        assert await self.lanes.append([Appended(delivery.tag, number, written)]) == [True]

    async def end(self, delivery: Delivery, text: str = "", *, streams: bool = True) -> None:
        result = JobResult(job_id=uuid.UUID(delivery.job_id), status="succeeded", text=text)
        last = StreamEvent(kind="end", status=result.status, length=len(text)).written()
        reply_to = unpack(delivery.message).header.reply_to
        ended = Finished(delivery.tag, success_meta(result), 60, reply_to, ending=last if streams else b"")
        assert await self.lanes.finish([ended]) == [True]


@pytest.fixture
async def speaker(client: redis.asyncio.Redis, namespace: str) -> Speaker:
    lanes = Lanes(client, namespace=namespace)
    await lanes.set_limits(WIDE)
    return Speaker(lanes)


class Listener:
    """What a stream has told so far, as kinds and texts."""

    def __init__(self, job: AsyncJobHandle, **how: Any) -> None:
        self.events: list[StreamEvent] = []
        self._task = asyncio.create_task(self._listen(job, how))

    async def _listen(self, job: AsyncJobHandle, how: dict[str, Any]) -> None:
        async with aclosing(job.stream(**{"timeout": 20} | how)) as stream:
            async for event in stream:
                self.events.append(event)

    @property
    def heard(self) -> list[str]:
        return [event.text or event.kind for event in self.events]

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.events) < count:
                await asyncio.sleep(0.005)
        return self.heard

    async def to_its_end(self) -> list[str]:
        async with asyncio.timeout(20):
            await self._task
        return self.heard

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def job(async_fleet: AsyncFleet, speaker: Speaker) -> AsyncJobHandle:
    return await async_fleet.submit(**ASK, stream=True)


async def test_words_are_heard_while_the_job_runs(job: AsyncJobHandle, speaker: Speaker) -> None:
    listener = Listener(job)
    [held] = await speaker.take()
    await speaker.begin(held)
    await speaker.say(held, "In a ")
    assert await listener.until(2) == ["begin", "In a "]
    assert await job.status() == "running"
    await speaker.say(held, "week.")
    assert await listener.until(3) == ["begin", "In a ", "week."]
    await speaker.end(held, "In a week.")
    assert await listener.to_its_end() == ["begin", "In a ", "week.", "end"]
    assert listener.events[-1].status == "succeeded"
    assert (await job.result(timeout=5)).text == "In a week."


async def test_whoever_comes_back_hears_what_follows_in_another_process_too(
    job: AsyncJobHandle, speaker: Speaker, fleet_settings: FleetSettings
) -> None:
    listener = Listener(job)
    [held] = await speaker.take()
    await speaker.begin(held)
    await speaker.say(held, "In a ")
    await listener.until(2)
    await listener.stop()
    await speaker.say(held, "week.")
    async with AsyncFleet(fleet_settings) as elsewhere:
        again = Listener(await elsewhere.get(job.job_id), after=listener.events[-1].id)
        assert await again.until(1) == ["week."]
        await speaker.end(held, "In a week.")
        assert await again.to_its_end() == ["week.", "end"]


async def test_a_job_that_ended_is_told_as_long_as_its_stream_is_there_and_then_by_its_result(
    job: AsyncJobHandle, speaker: Speaker, client: redis.asyncio.Redis
) -> None:
    [held] = await speaker.take()
    await speaker.begin(held)
    await speaker.say(held, "In a ", "week.")
    await speaker.end(held, "In a week.")
    assert await Listener(job).to_its_end() == ["begin", "In a ", "week.", "end"]
    await client.delete(speaker.lanes.keys.stream(str(job.job_id)))
    assert await Listener(job).to_its_end() == ["begin", "In a week.", "end"]


async def test_a_job_that_is_not_streamed_is_told_at_its_end(
    async_fleet: AsyncFleet, speaker: Speaker
) -> None:
    job = await async_fleet.submit(**ASK)
    listener = Listener(job)
    [held] = await speaker.take()
    await speaker.end(held, "Whole.", streams=False)
    assert await listener.to_its_end() == ["begin", "Whole.", "end"]


async def test_a_refused_job_is_told_by_its_end(async_fleet: AsyncFleet) -> None:
    [refused] = await async_fleet.submit_many([{**ASK, "wrong": 1}])
    assert [event.status async for event in refused.stream()] == ["rejected"]


async def test_a_broken_connection_is_replaced_and_nothing_is_told_twice(
    job: AsyncJobHandle, speaker: Speaker, client: redis.asyncio.Redis
) -> None:
    listener = Listener(job)
    [held] = await speaker.take()
    await speaker.begin(held)
    for number, word in enumerate(("one ", "two ", "three "), 2):
        await speaker.say(held, word)
        await listener.until(number)
        me = await client.client_id()
        for each in await client.client_list():
            if int(each["id"]) != me:
                await client.client_kill_filter(_id=each["id"])
    await speaker.end(held, "one two three ")
    assert await listener.to_its_end() == ["begin", "one ", "two ", "three ", "end"]


async def test_many_streams_are_followed_over_one_connection(
    async_fleet: AsyncFleet, speaker: Speaker, client: redis.asyncio.Redis
) -> None:
    jobs = await async_fleet.submit_many({**ASK, "stream": True} for _ in range(60))
    listeners = [Listener(job) for job in jobs]
    held = await speaker.take(60)
    for one in held:
        await speaker.begin(one)
        await speaker.say(one, one.job_id)
    for listener in listeners:
        await listener.until(2)
    reading = [each for each in await client.client_list() if each["cmd"] == "xread"]
    assert len(reading) == 1
    for one in held:
        await speaker.end(one, one.job_id)
    for job, listener in zip(jobs, listeners, strict=True):
        assert await listener.to_its_end() == ["begin", str(job.job_id), "end"]


async def test_whoever_stops_listening_gives_everything_back(
    job: AsyncJobHandle, async_fleet: AsyncFleet, speaker: Speaker
) -> None:
    [held] = await speaker.take()
    await speaker.begin(held)
    listener = Listener(job)
    await listener.until(1)
    await listener.stop()
    async for event in job.stream(timeout=10):
        assert event.kind == "begin"
        break
    streams = async_fleet._link._streams
    async with asyncio.timeout(5):
        while streams._followed or not (streams._reading and streams._reading.done()):
            await asyncio.sleep(0.02)
    assert async_fleet._link._replies._waited == {}
    await speaker.end(held, "")


async def test_a_slow_reader_is_not_read_for(job: AsyncJobHandle, speaker: Speaker) -> None:
    stream = job.stream(timeout=20)
    [held] = await speaker.take()
    await speaker.begin(held)
    assert (await anext(stream)).kind == "begin"
    total = 0
    for _ in range(3):  # a stream keeps the last 1,000 entries: it must not run away from its reader
        await speaker.say(held, *(f"{number}," for number in range(total, total + 300)))
        total += 300
    heard = ""
    async with aclosing(stream):
        async for event in stream:
            heard += event.text
            if heard.endswith(f"{total - 1},") and total < 2_000:
                await speaker.say(held, *(f"{number}," for number in range(total, total + 700)))
                total += 700
            elif heard.endswith(f"{total - 1},") and event.kind == "text":
                await speaker.end(held, heard)
    assert heard == "".join(f"{number}," for number in range(total))
    assert total > MOST_UNREAD


async def test_a_job_that_does_not_end_in_time_is_a_timeout(job: AsyncJobHandle) -> None:
    with pytest.raises(ResultTimeout, match=r"not there within 0\.2 s"):
        async for _event in job.stream(timeout=0.2):
            pass


async def test_a_place_that_is_none_is_refused(job: AsyncJobHandle) -> None:
    with pytest.raises(ValueError, match="after: give the id of an event"):
        await anext(job.stream(after="yesterday"))


async def test_a_restarted_broker_is_read_on_from_where_it_was(own_valkey: Valkey, namespace: str) -> None:
    settings = FleetSettings(own_valkey.broker_url, namespace, result_ttl_s=60)
    async with (
        AsyncFleet(settings) as fleet,
        redis.asyncio.Redis.from_url(own_valkey.redis_url) as client,
    ):
        speaker = Speaker(Lanes(client, namespace=namespace))
        await speaker.lanes.set_limits(WIDE)
        job = await fleet.submit(**ASK, stream=True)
        listener = Listener(job)
        [held] = await speaker.take()
        await speaker.begin(held)
        await speaker.say(held, "one ")
        await listener.until(2)
        own_valkey.kill()
        await asyncio.to_thread(own_valkey.start)
        await speaker.say(held, "two")
        await speaker.end(held, "one two")
        assert await listener.to_its_end() == ["begin", "one ", "two", "end"]


async def test_a_broker_that_stays_away_is_said_in_time(own_valkey: Valkey, namespace: str) -> None:
    settings = FleetSettings(own_valkey.broker_url, namespace, result_ttl_s=60, broker_timeout_s=0.5)
    async with AsyncFleet(settings) as fleet:
        job = await fleet.submit(**ASK, stream=True)
        own_valkey.kill()
        async with asyncio.timeout(10):
            with pytest.raises(BrokerUnavailable, match="no broker answers"):
                async for _event in job.stream(timeout=30):
                    pass


def test_code_that_blocks_iterates_over_the_same(fleet: Fleet, worker: FakeWorker) -> None:
    job = fleet.submit(**ASK, stream=True)
    events = list(job.stream(timeout=20))
    assert [event.text or event.kind for event in events] == ["begin", "echo: Where is my card?", "end"]
    assert job.result(timeout=5).text == "echo: Where is my card?"
    first = threading.active_count()
    for _event in fleet.get(job.job_id).stream(timeout=20):
        break
    assert threading.active_count() == first


async def test_the_result_of_a_job_whose_end_says_more_than_its_stream_is_told(
    job: AsyncJobHandle, speaker: Speaker
) -> None:
    [held] = await speaker.take()
    await speaker.begin(held)
    await speaker.say(held, "In a ")
    await speaker.end(held, "In a week.")
    listener = Listener(replace_receipt(job))
    assert await listener.to_its_end() == ["begin", "In a ", "begin", "In a week.", "end"]


def replace_receipt(job: AsyncJobHandle) -> AsyncJobHandle:
    """The same job as another process finds it."""
    return AsyncJobHandle(replace(job.receipt, outcome="found"), job._link)
