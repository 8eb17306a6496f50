"""A broker that was flushed, and whose workers died with it, is given back from SQL what had begun."""

from __future__ import annotations

from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.books import violations
from tests.chaos.scene import until
from tests.chaos.stage import SLOW, Stage
from tests.servers import Valkey


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
