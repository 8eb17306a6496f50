"""Whole worker processes over the twin: traffic follows the measured speed, and hedged jobs keep every book."""

from __future__ import annotations

import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer_sdk.contract import Job
from tests.chaos.books import violations
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage
from worker.health.store import HealthStore
from worker.routing_load import load

SMALL, LARGE = "local/twin-small", "local_messages/twin-large"
SILENT = {"latency_ms": 20_000}


def routing_in(folder: Path, *, tenant: dict[str, Any] | None = None, **task: Any) -> Path:
    """The chaos tests' deployments: both in one alias by speed, the small one of most weight; and one after another."""
    whole = yaml.safe_load(ROUTING.read_text())
    both = [{**whole["aliases"]["first"][0], "weight": 3}, whole["aliases"]["second"][0]]
    whole["aliases"]["quickest"] = {"strategy": "fastest", "deployments": both}
    whole["tasks"] = {
        "ask": {"default": "quickest", "max_output_tokens": 64},
        "hedge": {
            "default": "first",
            "fallback": "second",
            "max_output_tokens": 64,
            "hedge_after_ms": 300,
            **task,
        },
    }
    whole["tenants"] = {"acme": {"tier": "vast", **(tenant or {})}}
    path = folder / "routing.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


def job_of(task: str, text: str = "Where is my parcel?") -> Job:
    return Job.model_validate({"tenant": "acme", "task": task, "messages": text})


def when(model: str, **what: Any) -> dict[str, Any]:
    return {"match": {"model": model}, **what}


class Speeds:
    """What the fleet has measured, seen from outside."""

    def __init__(self, scene: Scene) -> None:
        self._known = tuple(load(scene.settings.routing_path).deployments().values())
        self._health = HealthStore(scene.redis, namespace=scene.settings.fleet.namespace)

    async def first_ms(self) -> dict[str, float]:
        """By deployment, of those that are known well enough."""
        found = (await self._health.look(self._known)).deployments
        return {name: one.speed.first_ms for name, one in found.items() if one.speed and one.speed.is_known}


async def asked(scene: Scene, count: int) -> Counter[str]:
    """So many jobs, answered; which model took how many."""
    before = len(await scene.calls())
    jobs = [job_of("ask", f"Where is parcel {number}?") for number in range(count)]
    await scene.put(*jobs)
    for job in jobs:
        assert (await scene.ended(job.job_id))["status"] == "succeeded"
    return Counter(call["model"] for call in (await scene.calls())[before:])


async def test_jobs_go_to_the_quick_deployment_on_every_worker_and_leave_it_once_it_is_slow(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.scene(routing_path=routing_in(tmp_path)) as scene:
        speeds = Speeds(scene)
        await scene.behave(when("twin-small", latency_ms=150))
        first = stage.worker(scene, worker_name="w1")
        for _ in range(9):
            assert (await asked(scene, 10))["twin-small"] > 0
            if len(await speeds.first_ms()) == 2:
                break
        first.kill()
        stage.worker(scene, worker_name="w2")  # has measured nothing itself
        assert await asked(scene, 30) == {"twin-large": 30}
        await scene.twin.post("/twin/reset")
        await scene.behave(when("twin-large", latency_ms=400))
        await asked(scene, 16)

        async def is_slow() -> bool:
            found = await speeds.first_ms()
            return found[LARGE] > found[SMALL]

        assert await until(is_slow, what="the slow answers in the means")
        for _ in range(20):  # the worker's view is up to a second old
            if (await asked(scene, 5))["twin-small"]:
                break
        assert await asked(scene, 20) == {"twin-small": 20}


async def evident(scene: Scene, *, closed: int) -> None:
    """Every book agrees, though so many calls were closed before anybody knew what they cost."""
    await until(scene.is_at_rest, what="rest")
    scene.broken_by_tests = closed
    evidence = await scene.evidence()
    assert violations(evidence) == []
    assert len(evidence.uncertain) == closed
    for job_id, meta in evidence.results.items() if len(scene.workers) == 1 else ():
        booked = sum(event.cost_pico for event in evidence.events if event.job_id == job_id)
        assert Decimal(meta["result"]["cost_usd"]) == Decimal(booked).scaleb(-12), "the job's bill is whole"


async def test_a_hedged_job_is_answered_by_the_second_and_all_books_agree(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.scene(routing_path=routing_in(tmp_path)) as scene:
        await scene.behave(when("twin-small", **SILENT))
        stage.worker(scene)
        jobs = [job_of("hedge", f"Where is parcel {number}?") for number in range(5)]
        await scene.put(*jobs)
        for job in jobs:
            result = await scene.ended(job.job_id)
            assert (result["status"], result["deployment"]) == ("succeeded", LARGE)
            told = sorted((one["number"], one["deployment"], one["status"]) for one in result["attempts"])
            assert told == [(1, SMALL, "uncertain"), (2, LARGE, "settled")]
        assert len(await scene.calls()) == 10
        await evident(scene, closed=5)


async def test_a_hedge_never_passes_a_budget(stage: Stage, tmp_path: Path) -> None:
    routing = routing_in(tmp_path, tenant={"daily_budget_usd": 0.0005})
    async with stage.scene(routing_path=routing) as scene:
        await scene.behave(when("twin-small", latency_ms=700))
        stage.worker(scene)
        job = job_of("hedge")
        await scene.put(job)
        result = await scene.ended(job.job_id)
        assert (result["status"], result["deployment"]) == ("succeeded", SMALL)
        assert {call["model"] for call in await scene.calls()} == {"twin-small"}, (
            "the other's worst case is over"
        )
        await evident(scene, closed=0)


@pytest.mark.parametrize("how", ["cancelled", "lost"])
async def test_a_job_that_is_interrupted_while_both_calls_are_open_leaves_every_book_right(
    stage: Stage, tmp_path: Path, how: str
) -> None:
    async with stage.scene(routing_path=routing_in(tmp_path)) as scene:
        await scene.behave(when("twin-small", **SILENT), when("twin-large", **SILENT))
        worker = stage.worker(scene)
        job, before = job_of("hedge"), await scene.calls_made()
        await scene.put(job)

        async def both_open() -> bool:
            return len(await scene.open_calls(after=before)) == 2

        await until(both_open, what="two open calls")
        if how == "cancelled":
            await scene.lanes.cancel(str(job.job_id))
            result = await scene.ended(job.job_id, within_s=2.0)
            assert result["status"] == "cancelled"
            assert [one["status"] for one in result["attempts"]] == ["uncertain", "uncertain"]
        else:
            worker.send(signal.SIGSTOP)
            await scene.twin.post("/twin/reset")
            stage.worker(scene, worker_name="w2")
            result = await scene.ended(job.job_id)
            assert (result["status"], result["attempts"][0]["number"]) == ("succeeded", 3)
            worker.send(signal.SIGCONT)  # its lease is lost: it closes both calls
        await evident(scene, closed=2)
