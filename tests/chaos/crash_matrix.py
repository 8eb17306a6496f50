"""One job's life, struck at each of its boundaries in turn; afterwards the books must agree."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from producer_sdk.contract import Job, Message
from producer_sdk.contract.control import RESERVE, ReserveBatch
from tests.chaos.books import violations
from tests.chaos.crossings import Boundary, Mode, boundaries
from tests.chaos.forks import ForkedWorker, Strike
from tests.chaos.scene import Scene, until
from tests.chaos.stage import BILLED_FAILURE, SLOW, Stage

AT_ONCE = 8
SIGKILLED = -9
DUTIES = {"redis:beat", "redis:sweep", "redis:budget_release"}
LONG_AFTER_SWEEPS = 12


@dataclass(frozen=True)
class Life:
    """What happens to the one job of a case, when nothing is struck."""

    name: str
    text: str = "Where is my card?"
    is_cancelled: bool = False
    is_reserved: bool = False  # its batch reserves for it first
    ends: frozenset[str] = frozenset({"succeeded"})
    before: Strike | None = None  # an earlier worker has died there
    until_swept: bool = (
        False  # the life goes on until the worker's duties have had a turn after the job's end
    )

    def job(self) -> Job:
        text = f"{self.text} {uuid.uuid4()}"
        return Job(tenant="ants", task="ask", messages=[Message(role="user", content=text)])

    def cut(self, calls: Sequence[Mapping[str, Any]]) -> int:
        """How many of the provider's calls end without anybody being told what they cost."""
        return int(self.is_cancelled) + sum(call["status"] >= 500 for call in calls)


IN_ITS_CALL = Strike(Boundary(name="call:after_request", nth=1), Mode.DIES_AFTER)
ANSWERED = Life("answered at once", until_swept=True)
FALLS_BACK = Life("a billed failure, then another deployment", f"{BILLED_FAILURE} Where is my card?")
CANCELLED = Life(
    "cancelled while it runs", f"{SLOW} Where?", is_cancelled=True, ends=frozenset({"cancelled", "succeeded"})
)
TAKEN_OVER = Life("taken over from a dead worker", before=IN_ITS_CALL)
RESERVED = Life("the one line of a batch that reserves first", is_reserved=True)
LIVES = (ANSWERED, FALLS_BACK, CANCELLED, TAKEN_OVER, RESERVED)


@dataclass
class Struck:
    """What came of striking one life: the cases, how many never met their boundary, and each fault in a sentence."""

    cases: int = 0
    not_met: int = 0
    faults: list[str] = field(default_factory=list)


async def record(stage: Stage, life: Life) -> list[Boundary]:
    """Every boundary that one worker crosses from its start until all is done."""
    async with stage.scene() as scene:
        async with _begun(stage, scene, life):
            worker = stage.worker(scene)
            await until(scene.is_at_rest, what="the unharmed life's end")
        done = len(worker.crossed)
        if life.until_swept:
            await until(lambda: set(worker.crossed[done:]) >= DUTIES, what="a turn of every duty")
        worker.kill()
        scene.broken_by_tests = life.cut(await scene.calls())
        faults = violations(await scene.evidence())
        assert not faults, (faults, scene.logs)
        return boundaries(worker.crossed)


async def record_own(stage: Stage, life: Life) -> list[Boundary]:
    """The boundaries of a life from where it differs from a plain one."""
    own = await record(stage, life)
    if life is ANSWERED:
        return _once(own)
    if not stage.plain_life:
        stage.plain_life = await record(stage, ANSWERED)
    return _once(own)[_common(own, stage.plain_life) :]


def _common(one: Sequence[Boundary], other: Sequence[Boundary]) -> int:
    """The length of the beginning that two lives share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


def _once(life: Sequence[Boundary]) -> list[Boundary]:
    """Without those that follow the same four as an earlier one: duties that go round while nothing happens."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for number, at in enumerate(life):
        around = tuple(each.name for each in life[max(0, number - 4) : number + 1])
        if around not in seen:
            found.append(at)
        seen.add(around)
    return found


async def strike_each(stage: Stage, life: Life, mode: Mode, at: Sequence[Boundary]) -> Struck:
    """Strike this life once at each boundary, several cases at a time."""
    gate, struck = asyncio.Semaphore(AT_ONCE), Struck()

    async def one(boundary: Boundary) -> None:
        async with gate:
            await _strike(stage, life, Strike(boundary, mode), struck)

    await asyncio.gather(*(one(boundary) for boundary in at))
    return struck


async def _strike(stage: Stage, life: Life, strike: Strike, struck: Struck) -> None:
    struck.cases += 1
    async with stage.scene() as scene:
        try:
            struck.not_met += not await _live_through(stage, scene, life, strike)
            broken = not strike.mode.is_deadly and strike.at.name.startswith("call:")
            scene.broken_by_tests = int(broken) + life.cut(await scene.calls())
            faults = violations(await scene.evidence())
            statuses = {final["status"] for final in scene.rows.finals().values()}
            faults += [f"the job ended as {status}" for status in statuses - life.ends]
        except AssertionError as error:
            faults = [str(error), *violations(await scene.evidence())]
        struck.faults += [f"{strike.at}: {strike.mode}: {fault}\n{scene.logs}" for fault in faults]


async def _live_through(stage: Stage, scene: Scene, life: Life, strike: Strike) -> bool:
    """Whether the life has met the boundary."""
    async with _begun(stage, scene, life):
        doomed = stage.worker(scene, strike)
        is_met = await until(lambda: _met(scene, doomed), what="the boundary, or rest")
        if is_met == "met" and strike.mode.is_deadly:
            await _died(scene, doomed)
            stage.worker(scene)
        await until(scene.is_at_rest, what="rest")
    return bool(is_met == "met")


async def _met(scene: Scene, doomed: ForkedWorker) -> str:
    """A recording may have met by chance what another life of the same kind does not: duties run by the clock."""
    if doomed.struck:
        return "met"
    if doomed.crossed.count("redis:sweep") < LONG_AFTER_SWEEPS:
        return ""
    return "not met" if await scene.is_at_rest() else ""


async def _died(scene: Scene, worker: ForkedWorker) -> None:
    await until(lambda: worker.exit_code == SIGKILLED, what="the worker's death")
    scene.in_flight_at_kills |= set(scene.rows.in_flight())


@asynccontextmanager
async def _begun(stage: Stage, scene: Scene, life: Life) -> AsyncIterator[None]:
    """The job, or the batch that reserves for it, is in its lane, or in a dead worker's hands.

    It is cancelled as soon as it is called where that is so.
    """
    job = life.job()
    if life.is_reserved:
        then = asyncio.create_task(_put_when_reserved(scene, job, await _put_batch(scene, job)))
    else:
        await scene.put(job)
        then = asyncio.create_task(_cancel(scene, job) if life.is_cancelled else asyncio.sleep(0))
    if life.before:
        await _died(scene, stage.worker(scene, life.before))
        await until(scene.has_no_lease, what="the end of the dead worker's lease")
    try:
        yield
        await then
    finally:
        then.cancel()


async def _put_batch(scene: Scene, line: Job) -> Job:
    """The question whether there is money for the line; from now on the line is waited for."""
    question = ReserveBatch(lines=[line], for_s=60).model_dump_json(exclude_defaults=True)
    batch = Job(tenant=line.tenant, task=RESERVE, messages=[Message(role="user", content=question)])
    await scene.put(batch)
    scene.accepted.add(str(line.job_id))
    return batch


async def _put_when_reserved(scene: Scene, line: Job, batch: Job) -> None:
    answer = await scene.ended(batch.job_id)
    assert answer["status"] == "succeeded", answer
    await scene.put(line, batch_id=batch.job_id)


async def _cancel(scene: Scene, job: Job) -> None:
    await until(lambda: _is_called(scene), what="the first call")
    await scene.lanes.cancel(str(job.job_id))


async def _is_called(scene: Scene) -> bool:
    return bool(await scene.calls())
