"""The broker or the ledger is away for longer than a lease: whole workers wait, and lose and repeat nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.books import violations
from tests.chaos.scene import Scene, until
from tests.chaos.stage import Stage
from tests.servers import Valkey

HANGS_A_WHILE = "[hangs a while]"


def question(text: str = "Where?") -> Job:
    return Job(tenant="ants", task="ask", messages=[Message(role="user", content=f"{text} {uuid7()}")])


async def assert_each_was_called_once(scene: Scene) -> None:
    await until(scene.is_at_rest, what="rest")
    evidence = await scene.evidence()
    assert violations(evidence) == [], scene.logs
    assert evidence.succeeded == len(evidence.accepted) == len(evidence.calls)


async def test_6_a_broker_that_comes_back_gives_no_job_to_a_second_worker(
    stage: Stage, own_valkey: Valkey
) -> None:
    """It is killed for more than two leases; of the first heartbeats after that, one is later than the other."""
    async with stage.scene(valkey=own_valkey) as scene:
        await scene.behave({"match": {"contains": HANGS_A_WHILE}, "latency_ms": 5000})
        await scene.put(*(question(HANGS_A_WHILE) for _ in range(8)))
        for name in ("w1", "w2"):
            stage.worker(scene, worker_name=name, slots=4)

        async def all_called() -> bool:
            return await scene.calls_made() >= 8

        await until(all_called, what="all calls")
        own_valkey.kill()
        await asyncio.sleep(2.2 * scene.settings.lease_s)  # the outage itself
        own_valkey.start()
        await assert_each_was_called_once(scene)


async def test_a_broker_that_hangs_is_waited_for(stage: Stage, own_valkey: Valkey) -> None:
    async with stage.scene(valkey=own_valkey) as scene:
        await scene.behave({"match": {"contains": HANGS_A_WHILE}, "latency_ms": 1000})
        await scene.put(*(question(HANGS_A_WHILE) for _ in range(8)))
        stage.worker(scene)

        async def all_called() -> bool:
            return await scene.calls_made() >= 8

        await until(all_called, what="all calls")
        own_valkey.pause()
        await asyncio.sleep(2.2 * scene.settings.lease_s)  # the outage itself
        own_valkey.resume()
        await assert_each_was_called_once(scene)


async def test_a_worker_that_starts_before_its_broker_waits_for_it(stage: Stage, own_valkey: Valkey) -> None:
    async with stage.scene(valkey=own_valkey) as scene:
        await scene.put(question())
        own_valkey.kill()
        worker = stage.worker(scene)
        await until(lambda: "Cannot connect" in worker.log, what="the worker's complaint")
        own_valkey.start()
        await assert_each_was_called_once(scene)


async def test_while_the_ledger_is_away_nothing_is_called(stage: Stage) -> None:
    """Jobs go back to their lane, uncounted, and run when it is there again."""
    async with stage.scene(ledger_timeout_s=0.5) as scene:
        path = scene.settings.ledger_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            job = question()
            await scene.put(job)
            worker = stage.worker(scene)
            handed_back = "redis:hand_back"
            await until(
                lambda: worker.crossed.count(handed_back) >= 2, what="the job in its lane again, twice"
            )
            assert await scene.calls() == []
            other.execute("ROLLBACK")
        await assert_each_was_called_once(scene)
        [state] = await scene.lanes.states([str(job.job_id)])
        assert state.deliveries == 1
