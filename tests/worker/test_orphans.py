"""A broker that was flushed, and whose workers died with it, is given back from SQL what had begun."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis.asyncio
import sqlalchemy

from producer_sdk.contract import Job, Message, uuid7
from producer_sdk.contract.envelope import pack
from tests.chaos.books import violations
from tests.chaos.scene import until
from tests.chaos.stage import SLOW, Stage
from tests.servers import Valkey
from tests.worker.money_desk import Desk, attempt_of, open_desk
from worker.job_run import Attempt
from worker.ledger.ledger import Ledger
from worker.ledger.tables import JOBS
from worker.orphans import Orphans


async def test_a_job_that_had_begun_is_ended_though_broker_and_worker_forgot_it(
    stage: Stage, own_valkey: Valkey
) -> None:
    async with stage.scene(valkey=own_valkey) as scene:
        job = Job(tenant="ants", task="ask", messages=[Message(role="user", content=f"{SLOW} {uuid7()}")])
        await scene.put(job)
        first = stage.worker(scene)

        async def is_called() -> bool:
            return await scene.calls_made() >= 1

        await until(is_called, what="the call")
        first.kill()
        scene.in_flight_at_kills |= set(scene.rows.in_flight())
        await scene.redis.flushall()
        stage.worker(scene)
        await until(scene.is_at_rest, within_s=60, what="rest")
        evidence = await scene.evidence()
        assert violations(evidence) == [], scene.logs
        assert evidence.succeeded == 1


async def test_what_a_live_worker_holds_is_left_to_it(stage: Stage, own_valkey: Valkey) -> None:
    async with stage.scene(valkey=own_valkey) as scene:
        await scene.behave({"match": {"contains": "hold on"}, "latency_ms": 4000})
        job = Job(tenant="ants", task="ask", messages=[Message(role="user", content=f"hold on {uuid7()}")])
        await scene.put(job)
        for name in ("w1", "w2"):
            stage.worker(scene, worker_name=name)

        async def is_called() -> bool:
            return await scene.calls_made() >= 1

        await until(is_called, what="the call")
        scene.in_flight_at_kills |= set(
            scene.rows.in_flight()
        )  # its worker closes the call and puts the job back
        await scene.redis.flushall()
        await until(scene.is_at_rest, within_s=60, what="rest")
        evidence = await scene.evidence()
        assert violations(evidence) == [], scene.logs
        assert evidence.succeeded == 1
        assert len(evidence.calls) == 2  # the one that was closed, and the one that answered


async def test_a_job_that_ends_before_its_worker_hears_of_the_flush_is_answered_all_the_same(
    stage: Stage, own_valkey: Valkey
) -> None:
    async with stage.scene(valkey=own_valkey, lease_s=60.0) as scene:
        await scene.behave({"match": {"contains": "a moment"}, "latency_ms": 1500})
        job = Job(tenant="ants", task="ask", messages=[Message(role="user", content=f"a moment {uuid7()}")])
        await scene.put(job)
        stage.worker(scene)

        async def is_called() -> bool:
            return await scene.calls_made() >= 1

        await until(is_called, what="the call")
        await scene.redis.flushall()
        await until(scene.is_at_rest, within_s=30, what="rest")
        evidence = await scene.evidence()
        assert violations(evidence) == [], scene.logs
        assert evidence.succeeded == len(evidence.calls) == 1


async def test_right_after_a_flush_nothing_is_put_back_for_live_workers_come_first(desk: Desk) -> None:
    attempt = attempt_of(20)
    attempt.job_run.fleet = desk.namespace
    attempt.job_run.message = message_of(attempt)
    assert await desk.reserve(attempt)
    assert await desk.journal(attempt)
    orphans = orphans_of(desk)
    assert await orphans.put_back() == 0, "these lanes have just been born"
    await desk.redis.hset(desk.lanes.keys.root + "state", "hold", 0)
    assert await orphans.put_back() == 1
    assert await orphans.put_back() == 0, "it is known now"


async def test_another_fleets_jobs_are_left_to_it(desk: Desk) -> None:
    attempt = attempt_of(20)
    attempt.job_run.fleet = "another"
    attempt.job_run.message = message_of(attempt)
    assert await desk.reserve(attempt)
    assert await desk.journal(attempt)
    orphans = orphans_of(desk)
    await orphans.put_back()
    await desk.redis.hset(desk.lanes.keys.root + "state", "hold", 0)
    assert await orphans.put_back() == 0


def orphans_of(desk: Desk) -> Orphans:
    """Of a fleet whose every job began long ago."""
    engine = sqlalchemy.create_engine(desk.url)
    with engine.begin() as connection:
        connection.execute(JOBS.update().values(created_at=datetime(2026, 1, 1, tzinfo=UTC)))
    engine.dispose()
    return Orphans(ledger=desk.ledger, lanes=desk.lanes, store=desk.store, lease_s=60.0, result_ttl_s=60)


def message_of(attempt: Attempt) -> bytes:
    return pack(attempt.job_run.job).message


@pytest.fixture
async def desk(client: redis.asyncio.Redis, namespace: str, tmp_path: Path) -> AsyncIterator[Desk]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).migrate()
    desk = open_desk(client, namespace, url)
    await desk.books.rebuild()
    yield desk
    await desk.close()
