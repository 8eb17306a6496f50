"""One job's life, struck at each of its boundaries in turn; afterwards the books must agree."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from producer_sdk.contract import Job, Message
from tests.chaos.books import violations
from tests.chaos.crossings import Boundary, Mode, boundaries
from tests.chaos.forks import Strike
from tests.chaos.scene import Scene, until
from tests.chaos.stage import BILLED_FAILURE, SLOW, Stage

AT_ONCE = 6
SIGKILLED = -9


@dataclass(frozen=True)
class Life:
    """What happens to the one job of a case, when nothing is struck."""

    name: str
    text: str = "Where is my card?"
    is_cancelled: bool = False
    ends: frozenset[str] = frozenset({"succeeded"})

    def cut(self, calls: Sequence[Mapping[str, Any]]) -> int:
        """How many of the provider's calls end without anybody being told what they cost."""
        return int(self.is_cancelled) + sum(call["status"] >= 500 for call in calls)

    def job(self) -> Job:
        text = f"{self.text} {uuid.uuid4()}"
        return Job(tenant="ants", task="ask", messages=[Message(role="user", content=text)])


ANSWERED = Life("answered at once")
FALLS_BACK = Life("a billed failure, then another deployment", f"{BILLED_FAILURE} Where is my card?")
CANCELLED = Life("cancelled while it runs", f"{SLOW} Where?", True, frozenset({"cancelled", "succeeded"}))


async def record(stage: Stage, life: Life) -> list[Boundary]:
    """Every boundary that one worker crosses from its start until all is done and it has swept once more."""
    async with stage.scene() as scene:
        worker = None
        async with _begun(scene, life):
            worker = stage.worker(scene)
            await until(scene.is_at_rest, what="the unharmed life's end")
        done = len(worker.crossed)
        await until(lambda: "redis:sweep" in worker.crossed[done:], what="another sweep")
        worker.kill()
        scene.broken_by_tests = life.cut(await scene.calls())
        faults = violations(await scene.evidence())
        assert not faults, (faults, worker.log)
        return boundaries(worker.crossed)


async def strike_each(stage: Stage, life: Life, mode: Mode, at: Sequence[Boundary]) -> list[str]:
    """Strike this life once at each boundary, several cases at a time; one sentence for each fault."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(boundary: Boundary) -> list[str]:
        async with gate:
            return await _strike(stage, life, Strike(boundary, mode))

    found = await asyncio.gather(*(one(boundary) for boundary in at))
    return [fault for faults in found for fault in faults]


async def _strike(stage: Stage, life: Life, strike: Strike) -> list[str]:
    async with stage.scene() as scene:
        try:
            faults = await _live_through(stage, scene, life, strike)
        except AssertionError as error:
            faults = [str(error), *violations(await scene.evidence())]
        return [f"{strike.at}: {strike.mode}: {fault}\n{scene.logs}" for fault in faults]


async def _live_through(stage: Stage, scene: Scene, life: Life, strike: Strike) -> list[str]:
    async with _begun(scene, life) as job:
        doomed = stage.worker(scene, strike)
        await until(lambda: doomed.struck, what="the boundary")
        if strike.mode is not Mode.REPEATS:
            await until(lambda: doomed.exit_code == SIGKILLED, what="the worker's death")
            scene.in_flight_at_kills = len(scene.rows.in_flight())
            stage.worker(scene)
        await until(scene.is_at_rest, what="rest")
    broken = strike.mode is Mode.REPEATS and strike.at.name.startswith("call:")
    scene.broken_by_tests = int(broken) + life.cut(await scene.calls())
    faults = violations(await scene.evidence())
    status = (await scene.ended(job.job_id))["status"]
    return faults if status in life.ends else [*faults, f"the job ended as {status}"]


@asynccontextmanager
async def _begun(scene: Scene, life: Life) -> AsyncIterator[Job]:
    """The job is in its lane, and cancelled as soon as it is called where that is its life."""
    job = life.job()
    await scene.put(job)
    cancel = asyncio.create_task(_cancel(scene, job)) if life.is_cancelled else None
    try:
        yield job
        if cancel:
            await cancel
    finally:
        if cancel:
            cancel.cancel()


async def _cancel(scene: Scene, job: Job) -> None:
    await until(lambda: _is_called(scene), what="the first call")
    await scene.lanes.cancel(str(job.job_id))


async def _is_called(scene: Scene) -> bool:
    return bool(await scene.calls())
