"""Answers on their way to the producer, over whole workers and the twin: as they come, broken, begun anew, withheld."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from producer_sdk import AsyncFleet, AsyncJobHandle, StreamEvent
from tests.chaos.books import violations
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage

TASKS = """tasks:
  cite: {default: first, fallback: second, requires_citations: true, max_output_tokens: 200}
"""
SECRET = "xyzzy-4711"
LONG = " ".join(f"word{number}" for number in range(40))
DOCUMENTS = [{"id": "post", "text": "Cards arrive by post within a week."}]


@pytest.fixture
async def scene(stage: Stage, tmp_path: Path) -> AsyncIterator[Scene]:
    routing = tmp_path / "routing.yaml"
    routing.write_text(ROUTING.read_text().replace("tasks:\n", TASKS, 1))
    async with stage.scene(routing_path=routing) as scene:
        stage.worker(scene)
        yield scene
        await until(scene.is_at_rest, what="rest")
        assert violations(await scene.evidence()) == []
        assert "Traceback" not in scene.said
        assert SECRET not in scene.said


@pytest.fixture
async def fleet(scene: Scene) -> AsyncIterator[AsyncFleet]:
    async with AsyncFleet(scene.settings.fleet) as fleet:
        yield fleet


async def asked(scene: Scene, fleet: AsyncFleet, task: str = "ask_first", **fields: Any) -> AsyncJobHandle:
    job = await fleet.submit(
        tenant="ants", task=task, messages=f"Why? {time.time_ns()}", stream=True, **fields
    )
    scene.accepted.add(str(job.job_id))
    return job


def answer_in(events: list[StreamEvent]) -> str:
    """The text that stands: what came since the last beginning."""
    text = ""
    for event in events:
        text = "" if event.kind == "begin" else text + event.text
    return text


async def everything(client: redis.asyncio.Redis) -> str:
    """All that lies in the server, read by its kind."""
    reads = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    found = [(key, await client.type(key)) async for key in client.scan_iter(count=1000)]
    return repr([await reads[kind](key) for key, kind in found if kind != b"none"])


async def test_an_answer_is_heard_while_it_is_given_and_a_cut_connection_loses_none_of_it(
    scene: Scene, fleet: AsyncFleet
) -> None:
    await scene.behave({"answer": LONG, "chunk_ms": 15})
    job, events = await asked(scene, fleet), []
    async for event in job.stream(timeout=20):
        events.append(event)
        if len(events) == 3:
            assert await job.status() == "running"
            for each in await scene.redis.client_list():
                if each["cmd"] == "xread":
                    await scene.redis.client_kill_filter(_id=each["id"])
    assert [event.kind for event in events[:2]] == ["begin", "text"]
    assert (events[-1].kind, events[-1].status) == ("end", "succeeded")
    assert len(events) > 6
    assert answer_in(events) == LONG == (await job.result(5)).text
    numbers = [int(event.id.partition("-")[2]) for event in events]
    assert numbers == list(range(1, len(events) + 1))


async def test_a_fallback_is_seen_as_a_new_beginning(scene: Scene, fleet: AsyncFleet) -> None:
    broken = {"answer": LONG, "chunk_ms": 10, "break_after_chunks": 20}
    await scene.behave({"match": {"model": "twin-small"}, **broken}, {"answer": "All is well."})
    job = await asked(scene, fleet, task="ask")
    events = [event async for event in job.stream(timeout=20)]
    begun = [event.attempt for event in events if event.kind == "begin"]
    assert begun == [1, 2]
    assert "".join(event.text for event in events if event.attempt == 1).startswith("word0 word1")
    assert answer_in(events) == "All is well."
    scene.broken_by_tests += 1


async def test_a_job_whose_worker_was_killed_in_the_middle_is_told_anew_and_whole(
    stage: Stage, scene: Scene, fleet: AsyncFleet
) -> None:
    await scene.behave({"answer": LONG, "chunk_ms": 20})
    [first] = scene.workers
    job, events = await asked(scene, fleet), []
    async for event in job.stream(timeout=30):
        events.append(event)
        if len(events) == 4 and first.exit_code is None:
            scene.in_flight_at_kills |= set(scene.rows.in_flight())
            first.kill()
            await scene.behave({"answer": LONG})
            stage.worker(scene, worker_name="w2")
    assert [event.attempt for event in events if event.kind == "begin"] == [1, 2]
    assert answer_in(events) == LONG
    assert (events[-1].kind, events[-1].length) == ("end", len(LONG))


async def test_an_answer_that_a_check_has_stopped_was_never_in_redis(scene: Scene, fleet: AsyncFleet) -> None:
    await scene.behave({"answer": f"Uncited {SECRET}.", "chunk_ms": 30})
    job = await asked(scene, fleet, task="cite", documents=DOCUMENTS)
    seen, events = "", []

    async def listen() -> None:
        events.extend([event async for event in job.stream(timeout=20)])

    listening = asyncio.create_task(listen())
    while not listening.done():
        seen += await everything(scene.redis)
        await asyncio.sleep(0.2)
    await listening
    assert SECRET not in seen
    assert len(await scene.calls()) == 3
    assert [(event.kind, event.status) for event in events] == [("end", "failed")]
    unchecked = await asked(scene, fleet)
    assert SECRET in answer_in([event async for event in unchecked.stream(timeout=20)])
    assert SECRET in await everything(scene.redis), "what is looked for would have been found"


async def test_a_checked_answer_is_told_when_it_has_passed(scene: Scene, fleet: AsyncFleet) -> None:
    await scene.behave({"answer": "Uncited.", "times": 1})
    job = await asked(scene, fleet, task="cite", documents=DOCUMENTS)
    events = [event async for event in job.stream(timeout=20)]
    assert [event.kind for event in events] == ["begin", "text", "end"]
    assert (events[0].attempt, events[1].text) == (2, (await job.result(5)).text)


async def test_a_kept_answer_a_refused_job_and_a_cancelled_one(scene: Scene, fleet: AsyncFleet) -> None:
    same = {"tenant": "ants", "task": "ask", "messages": "The same again?", "stream": True}
    kinds = []
    for _ in range(2):
        kept = await fleet.submit(**same)
        scene.accepted.add(str(kept.job_id))
        kinds.append([(event.kind, event.attempt) async for event in kept.stream(timeout=20)])
    assert kinds[1] == [("begin", 0), ("text", 0), ("end", 0)]
    refused = await asked(scene, fleet, task="cite")
    assert [event.status async for event in refused.stream(timeout=20)] == ["rejected"]
    await scene.behave({"answer": LONG, "chunk_ms": 50})
    cancelled, statuses = await asked(scene, fleet), []
    async for event in cancelled.stream(timeout=20):
        if event.kind == "text" and not statuses:
            statuses.append(await cancelled.cancel())
        if event.kind == "end":
            statuses.append(event.status)
    assert statuses == ["running", "cancelled"]
    scene.broken_by_tests += 1
