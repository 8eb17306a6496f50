"""The real scripts and the real ledger walk in step with money_model.py, and say the same after every move.

The walks are drawn by Hypothesis from the moves that the model allows; beside them the interleavings that break the
model where one repair is missing are walked one by one. At the end of every walk the workers are dead, and the real
rebuild and reaper must bring Redis to say what SQL says.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.money_model import COST, HELD, LIMIT, REPAIRS, WORST, State, counted, fault, moves
from tests.servers import Valkey
from tests.worker.money_desk import Desk, attempt_of, open_desk
from worker.budget.rules import windows
from worker.job_run import Attempt
from worker.ledger.ledger import Ledger, RebuildSums

ATTEMPTS = ("a1", "a2", "a3")
FREE_WALK = State(workers=tuple((a, "new", 0) for a in ATTEMPTS), flushes=3)
MOST_REBUILDS = 8


class Walk:
    """One walk: the model's state, and the real servers beside it."""

    def __init__(self, desk: Desk, start: State) -> None:
        self.desk, self.state = desk, start
        self.attempts = {a: attempt_of(WORST, limit_pico=LIMIT) for a, _step, _epoch in start.workers}
        self.sums: dict[str, RebuildSums] = {}
        self.told: dict[str, int] = {}  # the epoch that Redis answered a worker
        self.read: tuple[UUID, int, int] | None = (
            None  # what the reaper read, and the epoch that Redis answered
        )
        self.flushes = 0
        first = next(iter(self.attempts.values()))
        (self.window,) = windows(first.job_run.known_tenant(), first.created_at)
        desk.windows_seen.add(self.window.name)

    async def begin(self) -> None:
        await self.desk.books.rebuild()
        self.first_epoch = self.newest = await self.desk.ledger.epoch()

    def open_moves(self) -> dict[str, State]:
        """What may happen next. That a worker dies is left out: one that is moved no more is as good as dead.

        A server that was restarted still has its old books, not in force: older sums than those are refused by it, and
        are only given up here, though the model, whose server forgets, would let them be installed.
        """
        following = dict(moves(self.state, None, MOST_REBUILDS))
        late = {
            f"{which}: rebuild installs" for which, sums in self.sums.items() if sums.epoch <= self.newest
        }
        return {
            name: after
            for name, after in following.items()
            if not name.endswith(" dies") and name not in late
        }

    async def go(self, name: str, after: State) -> None:
        """Do one move for real, and compare."""
        who, verb = name.split(": ")
        does: Callable[[Any], Awaitable[Any]] = getattr(self, "_" + verb.replace(" ", "_"))
        await does(self.attempts.get(who, who))
        self.state = after
        await self.compare(name)

    async def compare(self, name: str) -> None:
        s, standing = self.state, await self.desk.store.standing([self.window.name])
        ids = {attempt.id: a for a, attempt in self.attempts.items()}
        rows = {
            ids[row.attempt_id]: (row.state, row.amount_pico, row.is_mirrored) for row in self.desk.rows()
        }
        assert rows == {a: tuple(row) for a, row in s.sql}, name
        assert self.desk.counted() == counted(s) <= LIMIT, name
        if s.redis is None:
            assert standing.epoch is None, name
            return
        held = sum(settled == HELD for _a, settled in s.redis.records)
        assert standing.epoch == s.redis.epoch + self.first_epoch, name
        assert standing.windows == {self.window.name: (s.redis.settled, WORST * held)}, name

    async def _reserves(self, attempt: Attempt) -> None:
        assert await self.desk.reserve(attempt, windows=(self.window,))

    async def _journals(self, attempt: Attempt) -> None:
        assert await self.desk.journal(attempt)

    async def _is_refused_at_the_journal(self, attempt: Attempt) -> None:
        assert not await self.desk.journal(attempt)

    async def _gives_its_hold_back(self, attempt: Attempt) -> None:
        await self.desk.store.free([attempt.id])

    async def _settles_in_SQL(self, attempt: Attempt) -> None:  # noqa: N802 - the move's own words
        await self.desk.settle_in_sql(attempt, COST)

    async def _settles_in_Redis(self, attempt: Attempt) -> None:  # noqa: N802 - the move's own words
        settled = await self.desk.settle_in_redis(attempt.id, COST)
        assert settled
        self.told[attempt.id] = settled.epoch

    async def _is_unknown_to_Redis(self, attempt: Attempt) -> None:  # noqa: N802 - the move's own words
        assert await self.desk.settle_in_redis(attempt.id, COST) is None

    async def _is_mirrored(self, attempt: Attempt) -> None:
        await self.desk.ledger.mirrored({attempt.id: (self.told[attempt.id], COST)})

    async def _reaper_makes_it_uncertain(self, attempt: Attempt) -> None:
        assert len(await self.desk.ledger.mark_uncertain([attempt.id])) == 1

    async def _reaper_reads_it(self, attempt: Attempt) -> None:
        (row,) = [row for row in await self.desk.ledger.unmirrored() if row.id == attempt.id]
        self.read = (row.id, row.amount_pico, 0)

    async def _reaper_settles_it(self, _attempt: Attempt) -> None:
        assert self.read
        attempt_id, amount, _epoch = self.read
        settled = await self.desk.settle_in_redis(attempt_id, amount)
        assert settled
        self.read = (attempt_id, amount, settled.epoch)

    async def _reaper_mirrors_it(self, _attempt: Attempt) -> None:
        assert self.read
        attempt_id, amount, epoch = self.read
        await self.desk.ledger.mirrored({attempt_id: (epoch, amount)})

    async def _reaper_voids_it(self, attempt: Attempt) -> None:
        assert await self.desk.ledger.void([attempt.id]) == [attempt.id]

    async def _reaper_frees_it(self, attempt: Attempt) -> None:
        await self.desk.store.free([attempt.id])

    async def _its_record_expires(self, attempt: Attempt) -> None:
        await self.desk.expire(attempt.id)

    async def _is_flushed(self, _server: str) -> None:
        """Flushed, or restarted with what it had: the model makes no difference, and neither may Fairlane."""
        self.flushes += 1
        if self.flushes % 2:
            self.desk.restart(run_id=f"run {self.flushes}")
        else:
            await self.desk.flush()
            self.newest = 0

    async def _rebuild_sums_up(self, which: str) -> None:
        self.sums[which] = await self.desk.sums()

    async def _rebuild_installs(self, which: str) -> None:
        assert await self.desk.install(self.sums[which])
        self.newest = self.sums[which].epoch

    async def _rebuild_gives_up(self, which: str) -> None:
        """It died; or it came too late, and must be refused."""
        if self.newest >= self.sums[which].epoch:
            assert not await self.desk.install(self.sums[which])


@pytest.fixture
def open_walk(valkey: Valkey, tmp_path: Path) -> Callable[[State], Any]:
    """Opens a walk on a database of its own, copied from one that was migrated once."""
    template = tmp_path / "template.sqlite"
    Ledger(f"sqlite:///{template}").migrate()
    numbers: Iterator[int] = itertools.count()

    @asynccontextmanager
    async def opened(start: State) -> AsyncIterator[Walk]:
        name = f"{tmp_path.name}-{next(numbers)}"
        shutil.copy(template, tmp_path / f"{name}.sqlite")
        connection = redis.asyncio.Redis.from_url(valkey.redis_url)
        desk = open_desk(connection, name, f"sqlite:///{tmp_path / name}.sqlite", run_id_override="run 0")
        try:
            walk = Walk(desk, start)
            await walk.begin()
            yield walk
            await desk.come_to_rest()
            assert desk.counted() <= LIMIT
        finally:
            await desk.close()
            await connection.aclose()

    return opened


def test_real_servers_walk_in_step_with_the_model(open_walk: Callable[[State], Any]):
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(st.integers(0, 2**16), min_size=10, max_size=40))
    def walks(choices: list[int]) -> None:
        async def walk_it() -> None:
            async with open_walk(FREE_WALK) as walk:
                for choice in choices:
                    following = walk.open_moves()
                    if not following:
                        break
                    name = sorted(following)[choice % len(following)]
                    await walk.go(name, following[name])

        asyncio.run(walk_it())

    walks()


@pytest.mark.parametrize("repair", REPAIRS)
def test_what_breaks_the_model_without_a_repair_breaks_nothing_here(
    repair: str, open_walk: Callable[[State], Any]
):
    attempts = ("a1", "a2") if repair in ("epoch", "void") else ("a1",)
    broken = fault(attempts, rebuilds=3 if len(attempts) == 1 else 1, without=repair)
    assert broken
    start = State(workers=tuple((a, "new", 0) for a in attempts))

    async def walk_it() -> None:
        async with open_walk(start) as walk:
            for broken_move in broken[1]:
                following = walk.open_moves()
                prevented = broken_move.replace(": journals", ": is refused at the journal")
                for name in (broken_move, prevented):
                    if name in following:
                        await walk.go(name, following[name])
                        break

    asyncio.run(walk_it())
