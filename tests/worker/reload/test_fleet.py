"""Two worker processes whose routing.yaml is replaced while they work: old jobs, new jobs, and a bad file."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool

from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage
from worker.ledger.tables import EVENTS, ROUTING_WORKERS
from worker.routing_load import load

LONG = {"match": {"contains": "a long story"}, "latency_ms": 4_000}
DEARER = ("price: {input: 0.10, output: 0.40, cache_read", "price: {input: 0.20, output: 0.80, cache_read")
WITHOUT_BEES = ("  bees: pro\n", "")


def replace_file(path: Path, *changes: tuple[str, str]) -> None:
    """In one move, as an editor and a deployment do it."""
    text = ROUTING.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def asked(text: str, *, tenant: str = "ants") -> Job:
    messages = [Message(role="user", content=text)]
    return Job(tenant=tenant, task="ask_first", messages=messages, job_id=uuid7())


class Routed:
    """What the ledger says of versions."""

    def __init__(self, scene: Scene) -> None:
        self._engine = create_engine(scene.settings.ledger_url, poolclass=NullPool)

    def workers(self) -> dict[str, tuple[str, str | None]]:
        """Each worker's version, and what it has refused."""
        columns = (ROUTING_WORKERS.c.worker, ROUTING_WORKERS.c.version, ROUTING_WORKERS.c.refused)
        with self._engine.connect() as connection:
            return {row.worker: (row.version, row.refused) for row in connection.execute(select(*columns))}

    def of_job(self, job: Job) -> tuple[str, int]:
        """The version in the job's row, and what it cost in pico-dollars."""
        columns = (EVENTS.c.routing_version, EVENTS.c.cost_usd)
        with self._engine.connect() as connection:
            row = connection.execute(select(*columns).where(EVENTS.c.job_id == job.job_id)).one()
            return str(row.routing_version), int(row.cost_usd * 10**12)


async def answered(scene: Scene, *jobs: Job) -> None:
    for job in jobs:
        assert (await scene.ended(job.job_id))["status"] == "succeeded"


async def test_a_replaced_file_is_every_workers_for_new_jobs_and_a_bad_one_nobodys(
    stage: Stage, tmp_path: Path
) -> None:
    path = tmp_path / "routing.yaml"
    replace_file(path)
    old = load(path).version
    async with stage.scene(routing_path=path) as scene:
        await scene.behave(LONG)
        ledger = Routed(scene)
        for name in ("w1", "w2"):
            stage.worker(scene, worker_name=name, slots=4)
        await until(lambda: len(ledger.workers()) == 2, what="both workers")
        assert set(ledger.workers().values()) == {(old, None)}

        running = [asked(f"Tell me a long story of parcel {number}") for number in range(6)]
        waiting = asked("Where is my honey?", tenant="bees")
        await scene.lanes.pause("bees")
        before = await scene.calls_made()
        await scene.put(*running, waiting)
        await until(lambda: has_calls(scene, before + len(running)), what="their calls")
        replace_file(path, DEARER, WITHOUT_BEES)
        new = load(path).version
        await until(lambda: set(ledger.workers().values()) == {(new, None)}, what="the new version")
        await scene.lanes.resume("bees")
        then = [asked(f"Where is letter {number}?") for number in range(8)]
        await scene.put(*then)
        await answered(scene, *then)
        await answered(scene, *running)
        assert {ledger.of_job(job)[0] for job in running} == {old}
        assert {ledger.of_job(job)[0] for job in then} == {new}
        assert ledger.of_job(then[0])[1] > 1.5 * ledger.of_job(running[0])[1], "at the new price"
        gone = await scene.ended(waiting.job_id)
        assert (gone["status"], gone["error"]["code"]) == ("rejected", "unknown_tenant")

        path.write_text("tasks: {ask: {default: nowhere}}\n")
        await until(
            lambda: all(why and why.startswith("routing.yaml:1:") for _, why in ledger.workers().values()),
            what="the refusal",
        )
        last = asked("Where is the last letter?")
        await scene.put(last)
        await answered(scene, last)
        assert ledger.of_job(last)[0] == new
        assert "routing.yaml is refused, what holds stays: routing.yaml:1:" in scene.logs


async def has_calls(scene: Scene, count: int) -> bool:
    return await scene.calls_made() >= count
