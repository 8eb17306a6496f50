"""A job's answer on its way into Redis: over real lanes, and over a broker that is not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from producer_sdk.contract import ErrorCode, JobResult, read_event
from producer_sdk.contract.envelope import pack
from producer_sdk.lanes import Lanes, Limits, TenantLimits
from tests.worker.job_runs import answer_of, card, deployment, job_of, run_of
from worker.errors import FailureKind, JobStopped, ProviderError
from worker.job_run import Answer, Attempt, JobRun, Lease, PlannedCall
from worker.streaming.step import StreamAnswer, StreamText
from worker.streaming.streams import LAST_WORDS_S, Streams

T = TypeVar("T")


class Desk:
    """A held job, and the two steps around a call that says what the test says."""

    def __init__(self, lanes: Lanes, job_run: JobRun) -> None:
        self.lanes = lanes
        self.job_run = job_run
        self.streams = Streams(lanes)

    async def attempt(self, *words: str, number: int = 1, ends: Exception | None = None) -> Answer:
        """One call: it says these words a moment apart, then ends."""
        attempt = Attempt(self.job_run, PlannedCall(deployment("s"), "small", card(), 9), number, 5.0)

        async def call(inner: Attempt) -> Answer:
            for word in words:
                if inner.heard:
                    inner.heard(word)
                await asyncio.sleep(0)
            if ends:
                raise ends
            return answer_of("".join(words))

        return await StreamText(self.streams).run(attempt, call)

    async def run(self, proceed: Any) -> Answer:
        return await StreamAnswer(self.streams).run(self.job_run, proceed)

    async def told(self) -> list[tuple[str, int, str]]:
        found = await self.lanes._redis.xrange(self.lanes.keys.stream(str(self.job_run.job_id)))
        events = [read_event(entry_id.decode(), fields[b"event"]) for entry_id, fields in found]
        return [(event.kind, event.attempt, event.text) for event in events if event]


@pytest.fixture
async def desk(client: redis.asyncio.Redis, namespace: str) -> Desk:
    lanes = Lanes(client, namespace=namespace)
    await lanes.set_limits(Limits(TenantLimits(concurrency=10), {}))
    job = job_of(stream=True)
    await lanes.put([pack(job)], ttl_s=60)
    [delivery] = (await lanes.take(1, worker="w", lease_ms=30_000, op_id="op")).deliveries
    job_run = run_of(job)
    job_run.lease = Lease(delivery.tag, float("inf"))
    return Desk(lanes, job_run)


@pytest.fixture
async def nowhere() -> AsyncIterator[Lanes]:
    """Lanes of a broker that is away."""
    connection: Any = redis.asyncio.Redis.from_url("unix:///nowhere/v.sock", retry=Retry(NoBackoff(), 0))
    yield Lanes(connection)
    await connection.aclose()


async def test_words_are_in_the_stream_before_the_call_has_ended(desk: Desk):
    spoken, heard = asyncio.Event(), asyncio.Event()

    async def one_call(_run: JobRun) -> Answer:
        answer = await desk.attempt("Where ", "is it?")
        spoken.set()
        await heard.wait()
        return answer

    running = asyncio.create_task(desk.run(one_call))
    await spoken.wait()
    async with asyncio.timeout(5):
        while len(await desk.told()) < 2:
            await asyncio.sleep(0.01)
    heard.set()
    assert (await running).text == "Where is it?"
    assert "".join(text for _kind, _attempt, text in await desk.told()) == "Where is it?"


class LosesReplies:
    """The first two appends take effect, and nobody hears of it."""

    lost = 0

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        reply = await do()
        if name == "redis:append" and self.lost < 2:
            self.lost += 1
            raise redis.exceptions.ConnectionError("the reply was lost")
        return reply

    def cross_blocking(self, _name: str, do: Callable[[], T]) -> T:
        return do()


async def test_words_whose_appends_were_not_confirmed_are_not_said_twice(desk: Desk):
    crossing = LosesReplies()
    desk.lanes = Lanes(desk.lanes._redis, namespace=desk.lanes.keys.namespace, crossing=crossing)
    desk.streams = Streams(desk.lanes)

    async def one_call(_run: JobRun) -> Answer:
        answer = await desk.attempt("Where ", "is it?")
        async with asyncio.timeout(10):
            while crossing.lost < 2:
                await asyncio.sleep(0.01)
        return answer

    await desk.run(one_call)
    assert [kind for kind, _attempt, _text in await desk.told()].count("begin") == 1
    assert "".join(text for _kind, _attempt, text in await desk.told()) == "Where is it?"


async def test_a_fallback_begins_anew(desk: Desk):
    async def two_calls(_run: JobRun) -> Answer:
        with pytest.raises(ProviderError):
            await desk.attempt("Half", ends=ProviderError(FailureKind.STREAM_BROKEN, "it broke"))
        while len(await desk.told()) < 2:
            await asyncio.sleep(0.01)
        return await desk.attempt("Whole", number=2)

    await desk.run(two_calls)
    assert await desk.told() == [
        ("begin", 1, ""),
        ("text", 1, "Half"),
        ("begin", 2, ""),
        ("text", 2, "Whole"),
    ]


async def test_an_answer_that_a_check_may_refuse_is_said_when_it_was_passed(desk: Desk):
    desk.job_run.answer_checks = ("citations",)

    async def one_call(_run: JobRun) -> Answer:
        answer = await desk.attempt("Checked.")
        await asyncio.sleep(0.1)
        assert await desk.told() == []
        return answer

    await desk.run(one_call)
    assert [text for _kind, _attempt, text in await desk.told()] == ["", "Checked."]


async def test_a_job_that_fails_says_nothing_at_its_end(desk: Desk):
    async def stopped(_run: JobRun) -> Answer:
        raise JobStopped.of(ErrorCode.POLICY_DENIED, "no")

    with pytest.raises(JobStopped):
        await desk.run(stopped)
    assert await desk.told() == []


async def test_what_stands_in_the_final_row_is_what_is_said(desk: Desk):
    """Another delivery was first: its answer is the job's."""
    standing = JobResult(job_id=desk.job_run.job_id, status="succeeded", text="theirs")

    async def answered(_run: JobRun) -> Answer:
        await desk.attempt("ours")
        return answer_of("theirs", standing=standing)

    await desk.run(answered)
    assert (await desk.told())[-1] == ("text", 0, "theirs")


async def test_a_job_that_does_not_ask_for_it_is_not_streamed(desk: Desk):
    lease, desk.job_run = desk.job_run.lease, run_of(job_of())
    desk.job_run.lease = lease
    await desk.run(lambda _run: desk.attempt("Quietly."))
    assert await desk.told() == []


async def test_a_broker_that_is_away_costs_a_call_nothing_and_a_job_a_moment(nowhere: Lanes):
    desk = Desk(nowhere, run_of(job_of(stream=True)))
    calls_s: list[float] = []

    async def one_call(_run: JobRun) -> Answer:
        began = time.monotonic()
        answer = await desk.attempt(*("word " for _ in range(20_000)))
        calls_s.append(time.monotonic() - began)
        [writer] = desk.streams._open.values()
        assert writer.waiting <= 65_536
        return answer

    began = time.monotonic()
    assert len((await desk.run(one_call)).text) == 100_000
    assert time.monotonic() - began - calls_s[0] < LAST_WORDS_S + 0.5
    assert desk.streams._open == {}
