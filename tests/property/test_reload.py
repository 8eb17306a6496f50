"""However the files of a fleet's workers change, and whoever is started or ended meanwhile: all end at one version."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import scratch_folder
from tests.worker.ledger.writing import opened
from worker.job_run import Answer, JobRun
from worker.ledger.ledger import Ledger
from worker.reload.follow import FollowRouting, Routed
from worker.routing_file import RoutingFile
from worker.routing_load import Source
from worker.telemetry.signals import Signals

WORKERS = ("w1", "w2", "w3")
STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(WORKERS), st.sampled_from("abcd")),
    st.tuples(st.sampled_from(("look", "restart", "end")), st.sampled_from(WORKERS), st.just("")),
)


async def unreached(_job_run: JobRun) -> Answer:
    raise AssertionError("no job runs here")


async def build(source: Source) -> Routed:
    """The content names its version."""
    return Routed(source, RoutingFile(source.content.decode(), {}, {}, {}, {}, {}), unreached)


async def no_limits(_routing: RoutingFile) -> None:
    pass


class Fleet:
    """Workers, each with a file of its own."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._ledger, self._folder = ledger, folder
        self.living: dict[str, FollowRouting] = {}
        for name in WORKERS:
            self.write(name, "a")

    def write(self, name: str, content: str) -> None:
        (self._folder / f"{name}.yaml").write_text(content)

    async def start(self, name: str) -> None:
        worker = FollowRouting(
            fleet="f", worker=name, ledger=self._ledger, build=build, set_limits=no_limits, signals=Signals()
        )
        await worker.start(self._folder / f"{name}.yaml")
        await worker.tick()
        self.living[name] = worker

    async def step(self, what: str, name: str, content: str) -> None:
        if what == "write":
            self.write(name, content)
        elif what == "look" and name in self.living:
            await self.living[name].tick()
        elif what in ("restart", "end") and name in self.living:
            await self.living.pop(name).close()
        if what == "restart" and name not in self.living:
            await self.start(name)

    async def versions(self) -> list[str]:
        now = await self._ledger.routing_in_force("f")
        return [now.version if now else "", *(worker.version for worker in self.living.values())]


async def play(folder: Path, steps: list[tuple[str, str, str]]) -> None:
    url = f"sqlite:///{folder / 'ledger.sqlite'}"
    Ledger(url).migrate()
    async with opened(url) as ledger:
        fleet = Fleet(ledger, folder)
        for name in WORKERS:
            await fleet.start(name)
        for step in steps:
            await fleet.step(*step)
        for _ in range(3):
            for worker in fleet.living.values():
                await worker.tick()
        at_rest = await fleet.versions()
        assert len(set(at_rest)) == 1
        for worker in fleet.living.values():
            await worker.tick()
        assert await fleet.versions() == at_rest, "nothing moves where nobody changes a file"


@settings(max_examples=20)
@given(st.lists(STEPS, max_size=12))
def test_all_end_at_one_version_and_stay_there(steps: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory(prefix="fl-", dir=scratch_folder()) as folder:
        asyncio.run(play(Path(folder), steps))
