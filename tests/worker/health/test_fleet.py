"""A whole fleet whose providers are down, have too much, or are paused: what is called, and what becomes of jobs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage
from worker.health.rules import Standing, View
from worker.health.store import HealthStore
from worker.job_run import utc_now
from worker.routing_load import load

DOWN = {"match": {"model": "twin-small"}, "status": 503}
LATENCY_MS = 8_000
PER_MIN = 600


def routing_in(folder: Path, *changes: tuple[str, str]) -> Path:
    """The chaos tests' routing with a deadline for each chain, and these changes."""
    text = ROUTING.read_text()
    for old, new in (("fallback: second,", f"fallback: second, max_latency_ms: {LATENCY_MS},"), *changes):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "routing.yaml"
    path.write_text(text)
    return path


def jobs(count: int, *, of: str, within_s: float = 40.0) -> list[Job]:
    """Different questions, each with a deadline."""
    deadline = utc_now() + timedelta(seconds=within_s)
    texts = [f"Where is {of} {number}?" for number in range(count)]
    asked = [[Message(role="user", content=text)] for text in texts]
    return [
        Job(tenant="elephants", task="ask", messages=one, job_id=uuid7(), deadline=deadline) for one in asked
    ]


class Watched:
    """A scene's deployments, looked at from outside."""

    def __init__(self, scene: Scene) -> None:
        self._known = tuple(load(scene.settings.routing_path).deployments().values())
        self.health = HealthStore(scene.redis, namespace=scene.settings.fleet.namespace)

    async def look(self) -> View:
        """Now."""
        return await self.health.look(self._known)

    async def first(self) -> Standing:
        """The deployment that is asked first."""
        return (await self.look()).deployments["local/twin-small"]

    async def is_open(self) -> bool:
        """Whether its breaker is open."""
        return (await self.first()).open_s is not None

    async def all_cool(self) -> bool:
        """Whether both that can be asked are cooling down, and nobody is asking them."""
        found = (await self.look()).deployments
        both = [found[name] for name in ("local/twin-small", "local_messages/twin-large")]
        return all(one.cool and not one.in_flight for one in both)


async def succeeded(scene: Scene, asked: list[Job]) -> None:
    """Every one of these jobs was answered, in its chain's time."""
    for job in asked:
        result = await scene.ended(job.job_id, within_s=60)
        assert (result["status"], result["error"]) == ("succeeded", None)
        assert result["latency_ms"] <= LATENCY_MS


async def test_a_provider_that_is_down_is_hardly_called_once_its_breaker_is_open(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.scene(routing_path=routing_in(tmp_path)) as scene:
        await scene.behave(DOWN)
        watched = Watched(scene)
        for name in ("w1", "w2"):
            stage.worker(scene, worker_name=name)
        first = jobs(20, of="parcel")
        await scene.put(*first)
        await until(watched.is_open, what="the breaker")
        await succeeded(scene, first)
        before = await scene.calls()
        then = jobs(200, of="letter")
        await scene.put(*then)
        await succeeded(scene, then)
        calls = (await scene.calls())[len(before) :]
    in_vain = [call for call in calls if call["model"] == "twin-small"]
    assert len(calls) - len(in_vain) == 200
    assert len(in_vain) <= 0.05 * 200, "calls in vain, for each job"


async def test_jobs_wait_out_a_retry_after_of_every_deployment_and_then_use_all_that_is_allowed(
    stage: Stage, tmp_path: Path
) -> None:
    limited = ("  elephants: vast", f"  elephants: {{tier: vast, requests_per_min: {PER_MIN}, burst_s: 1}}")
    async with stage.scene(routing_path=routing_in(tmp_path, limited)) as scene:
        await scene.behave({"status": 429, "retry_after": 2})
        watched = Watched(scene)
        for name in ("w1", "w2"):
            stage.worker(scene, worker_name=name)
        asked = jobs(60, of="parcel")
        await scene.put(*asked)
        await until(watched.all_cool, what="the cool-downs")
        await scene.twin.post("/twin/reset")
        cools = (await watched.look()).deployments
        cool_s = min(one.cool.left_s for one in cools.values() if one.cool)
        over = utc_now() + timedelta(seconds=cool_s)
        await succeeded(scene, asked)
        served = [call["started"] for call in await scene.calls() if call["status"] == 200]
    assert len(served) == len(asked)
    assert min(served) > over.timestamp() - 0.5, "nobody was called before"
    allowed = PER_MIN / 60 * (max(served) - over.timestamp())
    assert len(served) >= 0.95 * allowed


async def test_a_pause_stops_every_call_at_once_and_jobs_wait_expire_or_go_on(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.scene(routing_path=routing_in(tmp_path)) as scene:
        watched = Watched(scene)
        for name in ("w1", "w2"):
            stage.worker(scene, worker_name=name)
        first = jobs(1, of="parcel")
        await scene.put(*first)
        await succeeded(scene, first)
        await watched.health.pause("all", reason="incident 17")
        calls = await scene.calls_made()
        late, waiting = jobs(1, of="postcard", within_s=1.5), jobs(20, of="letter")
        await scene.put(*late, *waiting)
        result = await scene.ended(late[0].job_id)
        assert (result["status"], result["error"]["code"]) == ("expired", "expired")
        await asyncio.sleep(1.0)
        assert await scene.calls_made() == calls
        assert set(await scene.without_result()) == {str(job.job_id) for job in waiting}
        assert await watched.health.resume("all")
        await succeeded(scene, waiting)
