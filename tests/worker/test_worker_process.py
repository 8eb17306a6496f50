"""Whole worker processes: how they end, what limits a job, what a pause does (by number: the interleavings)."""

from __future__ import annotations

import asyncio
import signal
import uuid
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from producer_sdk.canvas import celery_app
from producer_sdk.contract import Job, Message
from tests.chaos.books import violations
from tests.chaos.crossings import Boundary, Mode
from tests.chaos.forks import ForkedWorker, Strike
from tests.chaos.scene import Scene, until
from tests.chaos.stage import SLOW, Stage
from tests.servers import Valkey
from worker.beginnings import MOST_BEGINNING


def question(
    text: str = "Where is my card?", *, tenant: str = "ants", task: str = "ask", **fields: Any
) -> Job:
    content = f"{text} {uuid.uuid4()}"
    return Job(tenant=tenant, task=task, messages=[Message(role="user", content=content)], **fields)


async def until_called(scene: Scene, number: int = 1) -> None:
    async def called() -> bool:
        return len(await scene.calls()) >= number

    await until(called, what=f"{number} calls")


async def until_ended(worker: ForkedWorker) -> int:
    def ended() -> tuple[int | None] | None:
        return (worker.exit_code,) if worker.exit_code is not None else None

    return (await until(ended, what="the worker's end"))[0]


async def assert_sound(scene: Scene, *, cut: int = 0) -> None:
    """At rest, and the books agree; `cut` calls were cut off on purpose."""
    await until(scene.is_at_rest, what="rest")
    scene.broken_by_tests += cut
    assert violations(await scene.evidence()) == []


async def test_a_warm_shutdown_waits_for_the_jobs_in_hand(stage: Stage) -> None:
    async with stage.scene() as scene:
        await scene.put(*(question(SLOW) for _ in range(5)))
        worker = stage.worker(scene)
        await until_called(scene, 5)
        worker.send(signal.SIGTERM)
        assert await until_ended(worker) == 0, worker.log
        await assert_sound(scene)
        assert (await scene.evidence()).succeeded == 5


async def test_more_calls_are_open_than_may_begin_at_once(stage: Stage) -> None:
    async with stage.scene(slots=2 * MOST_BEGINNING) as scene:
        await scene.behave({"match": {"contains": "Wait"}, "latency_ms": 20_000})
        await scene.put(*(question("Wait", tenant="elephants") for _ in range(2 * MOST_BEGINNING)))
        stage.worker(scene)

        async def open_calls() -> bool:
            return len(scene.rows.in_flight()) == 2 * MOST_BEGINNING

        await until(open_calls, what="all calls to be open")


async def test_a_warm_shutdown_gives_back_what_does_not_end_in_time(stage: Stage) -> None:
    async with stage.scene(shutdown_grace_s=0.1) as scene:
        job = question(SLOW)
        await scene.put(job)
        worker = stage.worker(scene)
        await until_called(scene)
        worker.send(signal.SIGTERM)
        assert await until_ended(worker) == 0, worker.log
        [given_back] = await scene.lanes.states([str(job.job_id)])
        assert given_back.state == "pending"
        stage.worker(scene)
        assert (await scene.ended(job.job_id))["status"] == "succeeded"
        await assert_sound(scene, cut=1)


async def test_the_soft_limit_closes_the_call_and_books_it(stage: Stage) -> None:
    async with stage.scene(soft_limit_s=0.3) as scene:
        job = question(SLOW)
        await scene.put(job)
        stage.worker(scene)
        ended = await scene.ended(job.job_id)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "deadline_exceeded")
        await assert_sound(scene, cut=1)


async def test_a_hard_limit_below_the_soft_one_closes_the_call_and_books_it(stage: Stage) -> None:
    async with stage.scene(soft_limit_s=60, hard_limit_s=0.3) as scene:
        job = question(SLOW)
        await scene.put(job)
        stage.worker(scene)
        ended = await scene.ended(job.job_id)
        assert ended["error"]["code"] == "deadline_exceeded"
        assert [attempt["status"] for attempt in ended["attempts"]] == ["uncertain"]
        await assert_sound(scene, cut=1)


async def test_the_watchdog_ends_a_process_whose_loop_stands_still_and_its_jobs_come_back(
    stage: Stage,
) -> None:
    async with stage.scene(watchdog_s=1.0) as scene:
        job = question()
        await scene.put(job)
        stuck = stage.worker(scene, Strike(Boundary(name="call:before_connect", nth=1), Mode.STANDS_STILL))
        assert await until_ended(stuck) == -signal.SIGKILL
        assert "the loop has stood still" in stuck.log
        scene.in_flight_at_kills |= set(scene.rows.in_flight())
        stage.worker(scene)
        assert (await scene.ended(job.job_id))["status"] == "succeeded"
        await assert_sound(scene)


async def test_a_plain_celery_client_gets_the_result_by_the_jobs_id(stage: Stage) -> None:
    async with stage.scene() as scene:
        job = question()
        await scene.put(job)
        stage.worker(scene)
        url = scene.settings.fleet.broker_url
        with Celery("somebody else's", broker=url, backend=url, set_as_current=False) as plain:
            found = AsyncResult(str(job.job_id), app=plain)
            answer = await asyncio.to_thread(found.get, timeout=20)
        assert answer["status"] == "succeeded"
        assert answer == await scene.ended(job.job_id)
        await assert_sound(scene)


async def test_whoever_inspects_a_worker_sees_no_prompt(stage: Stage) -> None:
    async with stage.scene() as scene:
        job = question(SLOW)
        await scene.put(job)
        stage.worker(scene)
        await until_called(scene)
        with celery_app(scene.settings.fleet) as app:
            told = await asyncio.to_thread(app.control.inspect(timeout=5, limit=1).active)
        assert str(job.job_id) in repr(told)
        assert SLOW not in repr(told)
        assert await scene.lanes.cancel(str(job.job_id)) == "running"
        await scene.ended(job.job_id)
        await assert_sound(scene, cut=1)


@pytest.mark.parametrize("terminate", [False, True])
async def test_a_revoked_job_ends_as_cancelled(stage: Stage, terminate: bool) -> None:
    """Before it runs it costs nothing; while it runs (terminate) its call is closed and booked."""
    async with stage.scene() as scene:
        job, first = question(SLOW), question()
        await scene.put(first)
        stage.worker(scene)
        await scene.ended(first.job_id)
        if terminate:
            await scene.put(job)
            await until_called(scene, 2)
        with celery_app(scene.settings.fleet) as app:
            answered = {"terminate": terminate, "reply": True, "limit": 1, "timeout": 10}
            await asyncio.to_thread(app.control.revoke, str(job.job_id), **answered)
        if not terminate:
            await scene.put(job)
        ended = await scene.ended(job.job_id)
        assert (ended["status"], ended["error"]["code"]) == ("cancelled", "cancelled")
        await assert_sound(scene, cut=int(terminate))
        assert len(await scene.calls()) == 1 + int(terminate)


async def test_4_of_two_results_the_first_committed_stands(stage: Stage) -> None:
    """A worker is paused before it writes its result; another finishes the job; the first one resumes."""
    async with stage.scene() as scene:
        job = question()
        await scene.put(job)
        paused = stage.worker(
            scene, Strike(Boundary(name="call:after_last", nth=1), Mode.PAUSES), worker_name="w1"
        )
        await until(lambda: paused.struck, what="the pause")
        other = stage.worker(scene, worker_name="w2")
        await scene.ended(job.job_id)
        other.kill()
        first = scene.rows.finals()
        paused.send(signal.SIGCONT)
        await until(scene.rows.all_certain, what="the late settle")
        await assert_sound(scene)
        assert scene.rows.finals() == first
        assert len((await scene.evidence()).billed) == 2


async def test_5_a_worker_paused_before_its_call_does_not_call_when_it_resumes(stage: Stage) -> None:
    async with stage.scene() as scene:
        job = question()
        await scene.put(job)
        paused = stage.worker(scene, Strike(Boundary(name="call:before_connect", nth=1), Mode.PAUSES))
        await until(lambda: paused.struck, what="the pause")
        stage.worker(scene, worker_name="w2")
        assert (await scene.ended(job.job_id))["status"] == "succeeded"
        crossed = len(paused.crossed)
        paused.send(signal.SIGCONT)
        await until(lambda: "redis:beat" in paused.crossed[crossed:], what="its next heartbeat")
        await assert_sound(scene, cut=1)
        assert len(await scene.calls()) == 1


async def test_7_a_flushed_broker_loses_no_job_that_a_worker_holds(stage: Stage, own_valkey: Valkey) -> None:
    async with stage.scene(valkey=own_valkey) as scene:
        job = question(SLOW)
        await scene.put(job)
        stage.worker(scene)
        await until_called(scene)
        await scene.redis.flushall()
        assert (await scene.ended(job.job_id))["status"] == "succeeded"
        await assert_sound(scene, cut=1)


async def test_27_a_job_that_waits_for_its_provider_holds_no_slot(stage: Stage) -> None:
    async with stage.scene() as scene:
        await scene.behave({"match": {"model": "twin-small"}, "times": 1, "status": 429, "retry_after": 3})
        waiting, other = question(task="ask_first"), question(tenant="bees", task="ask_second")
        await scene.put(waiting)
        stage.worker(scene, slots=1)
        await until_called(scene)
        await scene.put(other)
        assert (await scene.ended(other.job_id))["status"] == "succeeded"
        assert await scene.result(waiting.job_id) is None
        assert (await scene.ended(waiting.job_id))["status"] == "succeeded"
        await assert_sound(scene)
