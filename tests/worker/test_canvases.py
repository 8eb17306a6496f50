"""Celery's canvases of `fairlane.run_job` through a whole worker: each link is a job of its tenant's lane."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from celery import chain, chord, group

from producer_sdk.canvas import FleetApp, celery_app
from tests.chaos.books import violations
from tests.chaos.scene import Scene, until
from tests.chaos.stage import Stage


@pytest.fixture
async def scene(stage: Stage) -> AsyncIterator[Scene]:
    """A fleet with one worker."""
    async with stage.scene() as scene:
        stage.worker(scene)
        yield scene


@pytest.fixture
def app(scene: Scene) -> FleetApp:
    """A product's Celery app."""
    return celery_app(scene.settings.fleet)


def ask(app: FleetApp, *, tenant: str | None = "ants", task: str = "ask", **fields: Any) -> Any:
    job = {"task": task, "messages": f"Where is my card? {uuid.uuid4()}", **fields}
    return app.tasks["fairlane.run_job"].s(job=job | ({"tenant": tenant} if tenant else {}))


async def answer_of(canvas: Any) -> Any:
    """Publish it and wait for its last result, as a product does: in one thread.

    Celery keeps a result backend in each thread, and a group that another thread has published is waited for in vain.
    """
    return await asyncio.to_thread(lambda: canvas.apply_async().get(timeout=30, interval=0.05))


async def tenants_called(scene: Scene, *, jobs: int) -> list[str]:
    """The tenant of each ledger row, when all jobs have ended and the books agree."""

    async def ended() -> bool:
        return len(scene.rows.finals()) == jobs

    await until(ended, what=f"{jobs} jobs' ends")
    scene.accepted |= set(scene.rows.finals())
    await until(scene.is_at_rest, what="rest")
    assert violations(await scene.evidence()) == [], scene.logs
    return sorted(scene.rows.tenants())


async def test_the_links_of_a_chain_run_in_order_and_inherit_the_tenant(scene: Scene, app: FleetApp) -> None:
    answer = await answer_of(chain(ask(app), ask(app, tenant=None), ask(app, tenant="bees")))
    assert answer["status"] == "succeeded"
    assert await tenants_called(scene, jobs=3) == ["ants", "ants", "bees"]


async def test_a_group_is_as_many_jobs(scene: Scene, app: FleetApp) -> None:
    answers = await answer_of(group(ask(app, tenant=tenant) for tenant in ("ants", "bees", "cats")))
    assert [answer["status"] for answer in answers] == ["succeeded"] * 3
    assert await tenants_called(scene, jobs=3) == ["ants", "bees", "cats"]


async def test_a_chords_body_runs_when_its_header_is_done(scene: Scene, app: FleetApp) -> None:
    answer = await answer_of(chord([ask(app), ask(app)], ask(app, tenant="bees")))
    assert answer["status"] == "succeeded"
    assert await tenants_called(scene, jobs=3) == ["ants", "ants", "bees"]


async def test_a_countdown_waits_in_the_lane_and_not_in_a_worker(scene: Scene, app: FleetApp) -> None:
    sent = await asyncio.to_thread(ask(app).apply_async, countdown=1)
    [waiting] = await scene.lanes.states([sent.id])
    assert (waiting.state, waiting.tenant) == ("delayed", "ants")
    assert (await scene.ended(sent.id))["status"] == "succeeded"
    assert await tenants_called(scene, jobs=1) == ["ants"]


async def test_a_retry_is_the_same_job_of_the_same_tenant(scene: Scene, app: FleetApp) -> None:
    """Every deployment of a batch job fails for now: Celery's retry moves it back into its lane."""
    await scene.behave({"match": {"model": "twin-small"}, "times": 2, "status": 503})
    answer = await answer_of(ask(app, task="ask_first", lane="batch"))
    assert (answer["status"], answer["job_id"]) == ("succeeded", next(iter(scene.rows.finals())))
    assert await tenants_called(scene, jobs=1) == ["ants"] * 3


async def test_with_raises_a_job_without_an_answer_calls_its_link_error(scene: Scene, app: FleetApp) -> None:
    failing = ask(app, task="no_such_task")
    failing.kwargs["raises"] = True
    failing.link_error(ask(app, tenant="bees"))
    with pytest.raises(Exception, match="unknown_task"):
        await answer_of(failing)

    async def both_ended() -> bool:
        return len(scene.rows.finals()) == 2

    await until(both_ended, what="the failing job and its link_error")
    assert scene.rows.tenants() == ["bees"]
