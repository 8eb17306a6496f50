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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer_sdk.contract import uuid7
from tests.property.money_model import (
    BATCH,
    BATCH_REPAIRS,
    CASES,
    COST,
    LIMIT,
    ONE_ATTEMPT,
    REPAIRS,
    WORST,
    Row,
    State,
    counted,
    fault,
    moves,
    used,
)
from tests.servers import Valkey
from tests.worker.money_desk import Desk, attempt_of, open_desk
from worker.budget.rules import windows
from worker.budget.store import BatchName, Reserved
from worker.job_run import Attempt
from worker.ledger.ledger import Ledger, RebuildSums, SettledAttempt

FREE_WALKS = [("a1", "a2", "a3"), ("B", "a1", "b1", "b2")]
MOST_REBUILDS = 8


class Walk:
    """One walk: the model's state, and the real servers beside it."""

    def __init__(self, desk: Desk, start: State) -> None:
        self.desk, self.state = desk, start
        names = [name for name, _step, _epoch in start.workers if name != BATCH]
        self.attempts = {a: attempt_of(WORST, limit_pico=LIMIT) for a in names}
        self.batch = BatchName("acme", uuid7())
        self.batch_epoch = 0
        self.sums: dict[str, RebuildSums] = {}
        self.told: dict[str, int] = {}  # the epoch that Redis answered a worker
        self.read: tuple[SettledAttempt, int] | None = (
            None  # what the reaper read, and what epoch Redis answered
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
        kind = "_batch_" if who == BATCH else "_"
        does: Callable[[Any], Awaitable[Any]] = getattr(self, kind + verb.replace(" ", "_"))
        await does(self.attempts.get(who, who))
        self.state = after
        await self.compare(name)

    async def compare(self, name: str) -> None:
        s, standing = self.state, await self.desk.store.standing([self.window.name])
        ids = {attempt.id: a for a, attempt in self.attempts.items()}
        rows = {
            ids[row.attempt_id]: (row.state, row.amount_pico, row.is_mirrored, row.is_line)
            for row in self.desk.rows()
        }
        assert rows == {a: tuple(row) for a, row in s.sql}, name
        assert self.desk.counted() == counted(s) <= LIMIT, name
        if s.redis is None:
            assert standing.epoch is None, name
            return
        held = used(s.redis) - s.redis.settled
        assert standing.epoch == s.redis.epoch + self.first_epoch, name
        assert standing.windows == {self.window.name: (s.redis.settled, held)}, name

    def _row(self, attempt: Attempt) -> Row:
        (name,) = [a for a, known in self.attempts.items() if known is attempt]
        return dict(self.state.sql)[name]

    async def _batch_reserves_its_sum(self, _batch: str) -> None:
        reply = await self.desk.store.open_batch(
            self.batch, amount_pico=WORST, windows=(self.window,), now=datetime.now(UTC)
        )
        assert isinstance(reply, Reserved)
        self.batch_epoch = reply.epoch

    async def _batch_is_opened_in_SQL(self, _batch: str) -> None:  # noqa: N802 - the move's own words
        assert not isinstance(await self._batch_opened(), str)

    async def _batch_is_refused_its_row(self, _batch: str) -> None:
        assert await self._batch_opened() in ("closed", "old_epoch")

    async def _batch_opened(self) -> object:
        """Expired, so that the reaper closes it when all are at rest."""
        return await self.desk.ledger.open_batch(
            self.batch.id,
            tenant="acme",
            reserved_pico=WORST,
            lines=2,
            windows=(self.window.name,),
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
            epoch=self.batch_epoch,
        )

    async def _batch_gives_its_sum_back(self, _batch: str) -> None:
        await self.desk.store.close_batches([self.batch])

    async def _batch_is_closed_in_SQL(self, _batch: str) -> None:  # noqa: N802 - the move's own words
        assert await self.desk.ledger.give_up_batches([self.batch.id], tenant="acme") == [self.batch.id]

    async def _batch_is_closed_in_Redis(self, _batch: str) -> None:  # noqa: N802 - the move's own words
        await self.desk.store.close_batches([self.batch])

    async def _batch_reaper_voids_it(self, _batch: str) -> None:
        await self.desk.ledger.void_batches({self.batch.id: "acme"})
        assert await self.desk.ledger.batch_states([self.batch.id]) == {self.batch.id: "closed"}

    async def _reserves(self, attempt: Attempt) -> None:
        assert await self.desk.reserve(attempt, windows=(self.window,), batch=self._batch_of(attempt))
        assert attempt.batch_id is None

    async def _draws_from_its_batch(self, attempt: Attempt) -> None:
        assert await self.desk.reserve(attempt, windows=(self.window,), batch=self.batch)
        assert attempt.batch_id == self.batch.id

    def _batch_of(self, attempt: Attempt) -> BatchName | None:
        (name,) = [a for a, known in self.attempts.items() if known is attempt]
        return self.batch if name.startswith("b") else None

    async def _journals(self, attempt: Attempt) -> None:
        assert await self.desk.journal(attempt)

    async def _is_refused_at_the_journal(self, attempt: Attempt) -> None:
        assert not await self.desk.journal(attempt)

    async def _gives_its_hold_back(self, attempt: Attempt) -> None:
        await self.desk.store.free([attempt.id])

    async def _settles_in_SQL(self, attempt: Attempt) -> None:  # noqa: N802 - the move's own words
        await self.desk.settle_in_sql(attempt, COST)

    async def _fails_in_SQL(self, attempt: Attempt) -> None:  # noqa: N802 - the move's own words
        await self.desk.settle_in_sql(attempt, 0, state="failed")

    async def _settles_in_Redis(self, attempt: Attempt) -> None:  # noqa: N802 - the move's own words
        row = self._row(attempt)
        settled = await self.desk.settle_in_redis(attempt.id, row.amount, returns_share=row.state == "failed")
        assert settled
        self.told[attempt.id] = settled.epoch

    async def _is_unknown_to_Redis(self, attempt: Attempt) -> None:  # noqa: N802 - the move's own words
        assert await self.desk.settle_in_redis(attempt.id, self._row(attempt).amount) is None

    async def _is_mirrored(self, attempt: Attempt) -> None:
        await self.desk.ledger.mirrored({attempt.id: (self.told[attempt.id], self._row(attempt).amount)})

    async def _reaper_makes_it_uncertain(self, attempt: Attempt) -> None:
        assert len(await self.desk.ledger.mark_uncertain([attempt.id])) == 1

    async def _reaper_reads_it(self, attempt: Attempt) -> None:
        (row,) = [row for row in await self.desk.ledger.unmirrored() if row.id == attempt.id]
        self.read = (row, 0)

    async def _reaper_settles_it(self, _attempt: Attempt) -> None:
        assert self.read
        row, _epoch = self.read
        settled = await self.desk.settle_in_redis(row.id, row.amount_pico, returns_share=row.returns_share)
        assert settled
        self.read = (row, settled.epoch)

    async def _reaper_mirrors_it(self, _attempt: Attempt) -> None:
        assert self.read
        row, epoch = self.read
        await self.desk.ledger.mirrored({row.id: (epoch, row.amount_pico)})

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


@pytest.mark.parametrize("names", FREE_WALKS, ids=["attempts", "a batch"])
def test_real_servers_walk_in_step_with_the_model(names: tuple[str, ...], open_walk: Callable[[State], Any]):
    start = State(workers=tuple((a, "new", 0) for a in names), flushes=3)

    @settings(
        max_examples=40,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(st.integers(0, 2**16), min_size=10, max_size=40))
    def walks(choices: list[int]) -> None:
        async def walk_it() -> None:
            async with open_walk(start) as walk:
                for choice in choices:
                    following = walk.open_moves()
                    if not following:
                        break
                    name = sorted(following)[choice % len(following)]
                    await walk.go(name, following[name])

        asyncio.run(walk_it())

    walks()


@pytest.mark.parametrize("repair", {**REPAIRS, **BATCH_REPAIRS})
def test_what_breaks_the_model_without_a_repair_breaks_nothing_here(
    repair: str, open_walk: Callable[[State], Any]
):
    attempts, rebuilds, flushes = CASES.get(repair, ONE_ATTEMPT)
    broken = fault(attempts, rebuilds=rebuilds, flushes=flushes, without=repair)
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
