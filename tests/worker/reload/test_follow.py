"""Workers of one fleet, each with a file of its own, over one ledger: which version each of them has."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.worker.good_routing_file import GOOD
from tests.worker.ledger.writing import opened
from worker.errors import ConfigError
from worker.job_run import Answer, JobRun
from worker.ledger.ledger import Ledger
from worker.reload.follow import Build, FollowRouting, Routed
from worker.routing_file import RoutingFile
from worker.routing_load import Source, load_source
from worker.telemetry.signals import Signals

BAD = GOOD.replace("daily_budget_usd: 0.5", "daily_budget_usd: much")
PLACE = "routing.yaml:16:43: tiers.free.daily_budget_usd: found 'much'"


async def unreached(_job_run: JobRun) -> Answer:
    raise AssertionError("no job runs here")


async def build(source: Source) -> Routed:
    routing, whole = load_source(source)
    return Routed(whole, routing, unreached)


def cheap(cents: int) -> str:
    return GOOD.replace("max_cost_usd: 0.001", f"max_cost_usd: 0.{cents:02}")


def version(text: str) -> str:
    return load_source(Source("routing.yaml", text.encode()))[0].version


def in_sql(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None, timeout=10)) as connection:
        connection.execute(statement)


class Worker:
    """One worker's side: its file, and the limits that it has set."""

    def __init__(
        self, ledger: Ledger, folder: Path, name: str, *, fleet: str = "f", build: Build = build
    ) -> None:
        self.path = folder / fleet / name / "routing.yaml"
        self.path.parent.mkdir(parents=True)
        self.limits: list[str] = []
        self.follow = FollowRouting(
            fleet=fleet, worker=name, ledger=ledger, build=build, set_limits=self._set, signals=Signals()
        )

    async def _set(self, routing: RoutingFile) -> None:
        self.limits.append(routing.version)

    def write(self, text: str) -> None:
        self.path.write_text(text)

    async def start(self, text: str) -> None:
        self.write(text)
        await self.follow.start(self.path)
        await self.follow.tick()

    async def look(self, times: int = 2) -> str:
        for _ in range(times):
            await self.follow.tick()
        return self.follow.version


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).migrate()
    async with opened(url) as started:
        yield started


@pytest.fixture
def one(ledger: Ledger, tmp_path: Path) -> Worker:
    return Worker(ledger, tmp_path, "w1")


@pytest.fixture
def other(ledger: Ledger, tmp_path: Path) -> Worker:
    return Worker(ledger, tmp_path, "w2")


async def test_a_changed_file_is_every_workers_version_and_its_limits_are_set(one, other):
    await one.start(cheap(1))
    await other.start(cheap(1))
    one.write(cheap(2))
    assert await one.look() == version(cheap(2))
    assert await other.look(times=1) == version(cheap(2)), "though its own file is the old one"
    assert one.limits == other.limits == [version(cheap(1)), version(cheap(2))]


async def test_a_file_that_all_share_is_published_once(ledger, one, other):
    await one.start(cheap(1))
    await other.start(cheap(1))
    for worker in (one, other):
        worker.write(cheap(2))
        await worker.look()
    assert (await ledger.routing_in_force("f")).number == 2


async def test_a_bad_file_is_refused_with_its_place_and_the_old_one_stays(ledger, one, caplog):
    await one.start(cheap(1))
    one.write(BAD)
    assert await one.look() == version(cheap(1))
    assert PLACE in caplog.text
    (said,) = await ledger.routing_workers("f", since=(await ledger.routing_in_force("f")).created_at)
    assert said.refused.startswith(PLACE)
    one.write(cheap(2))
    assert await one.look() == version(cheap(2))
    (said,) = await ledger.routing_workers("f", since=(await ledger.routing_in_force("f")).created_at)
    assert (said.version, said.refused) == (version(cheap(2)), None)


async def test_a_worker_with_a_new_file_brings_it_and_one_with_an_old_file_takes_the_fleets(
    one, other, ledger, tmp_path, caplog
):
    await one.start(cheap(1))
    await other.start(cheap(2))  # the first of a rolling deployment
    assert await one.look() == version(cheap(2))
    late = Worker(ledger, tmp_path, "w3")
    await late.start(cheap(1))  # one of the old image, started again
    assert late.follow.version == version(cheap(2))
    assert "fairlane routing publish" in caplog.text
    assert await other.look() == version(cheap(2))


async def test_a_file_that_was_behind_and_still_is_changes_nothing(one, other):
    await one.start(cheap(1))
    await other.start(cheap(1))
    for cents in (2, 3):
        one.write(cheap(cents))
        await one.look()
    other.write(cheap(2))
    assert await other.look() == version(cheap(3))
    assert await one.look() == version(cheap(3))


async def test_a_file_that_is_changed_back_is_followed(one, other):
    await one.start(cheap(1))
    await other.start(cheap(1))
    one.write(cheap(2))
    await one.look()
    one.write(cheap(1))
    assert await one.look() == version(cheap(1))
    assert await other.look() == version(cheap(1))


async def test_a_fleet_that_was_ended_starts_with_the_file_that_its_first_worker_has(one, other, ledger):
    await one.start(cheap(1))
    one.write(cheap(2))
    await one.look()
    await one.follow.close()
    await other.start(cheap(1))
    assert other.follow.version == version(cheap(1))
    assert (await ledger.routing_in_force("f")).number == 3


async def test_a_worker_with_a_bad_file_starts_beside_others_and_not_alone(one, other):
    other.write(BAD)
    with pytest.raises(ConfigError, match="write an amount"):
        await other.follow.start(other.path)
    await one.start(cheap(1))
    await other.start(BAD)
    assert other.follow.version == version(cheap(1))


async def test_fleets_that_share_a_ledger_have_versions_of_their_own(one, ledger, tmp_path):
    await one.start(cheap(1))
    stranger = Worker(ledger, tmp_path, "w1", fleet="g")
    await stranger.start(cheap(2))
    assert (await one.look(), stranger.follow.version) == (version(cheap(1)), version(cheap(2)))


async def test_a_version_that_a_worker_cannot_run_is_refused_there_and_the_next_one_is_taken(
    one, ledger, tmp_path, caplog
):
    """As an older release meets a key that it does not know."""

    async def knows_less(source: Source) -> Routed:
        if b"0.02" in source.content:
            raise ConfigError("routing.yaml:1:1: unknown key")
        return await build(source)

    older = Worker(ledger, tmp_path, "w3", build=knows_less)
    await one.start(cheap(1))
    await older.start(cheap(1))
    one.write(cheap(2))
    await one.look()
    assert await older.look(times=3) == version(cheap(1))
    assert caplog.text.count("cannot be run here: routing.yaml:1:1: unknown key") == 1
    one.write(cheap(3))
    await one.look()
    assert await older.look() == version(cheap(3))


async def test_a_file_that_no_worker_can_be_built_from_ends_none(one, ledger, tmp_path, caplog):
    async def breaks(source: Source) -> Routed:
        if b"0.02" in source.content:
            raise ZeroDivisionError
        return await build(source)

    broken = Worker(ledger, tmp_path, "w3", build=breaks)
    await broken.start(cheap(1))
    broken.write(cheap(2))
    assert await broken.look() == version(cheap(1))
    assert "no worker can be built from it (ZeroDivisionError)" in caplog.text
    assert (await ledger.routing_in_force("f")).number == 1


async def test_a_database_that_has_lost_the_versions_is_told_what_the_fleet_runs(one, ledger, tmp_path):
    await one.start(cheap(1))
    one.write(cheap(2))
    await one.look()
    in_sql(tmp_path, "DELETE FROM llm_routing_versions")
    assert await one.look() == version(cheap(2))
    now = await ledger.routing_in_force("f")
    assert (now.number, now.version) == (2, version(cheap(2)))


async def test_without_the_database_the_version_stays_that_is_said_once_and_the_change_is_not_lost(
    one, tmp_path, caplog
):
    await one.start(cheap(1))
    in_sql(tmp_path, "ALTER TABLE llm_routing_versions RENAME TO away")
    one.write(cheap(2))
    assert await one.look(times=3) == version(cheap(1))
    assert caplog.text.count("cannot be asked for") == 1
    in_sql(tmp_path, "ALTER TABLE away RENAME TO llm_routing_versions")
    assert await one.look() == version(cheap(2))


async def test_the_seeds_notation_travels_with_the_file_around_it(one, other, ledger):
    await one.start('{"ask": {"default": "fast-small"}}')
    await other.start(cheap(1))
    assert await one.look() == version(cheap(1))
    one.write('{"ask": {"default": "balanced-large"}}')
    assert await one.look() == await other.look()
    content, around = await ledger.routing_content("f", one.follow.version)
    assert b"balanced-large" in content
    assert b"providers:" in around
