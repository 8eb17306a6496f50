"""Makes Redis agree with SQL: the rebuild of a budget's books, and the reaper of what dead workers left behind.

SQL is the truth. Nothing here needs to know who is really dead: a paused worker that was taken for dead is refused
by the journal, or settles late, once. See docs/money.md for the order of writes, and why it is safe.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import redis.exceptions

from producer_sdk.contract import created_at
from producer_sdk.lanes import Lanes
from worker.budget.store import BatchHold, BatchName, BudgetStore, Hold, LimitChanges, Settled, Unknown
from worker.errors import BudgetUnavailable, LedgerRefused, LedgerUnavailable
from worker.ledger.ledger import Ledger, Overrides, RebuildSums, SettledAttempt

RETENTION = timedelta(days=7)  # of what jobs said
# A rebuild counts this far back. Longer than the longest window, and reserve.lua admits only within half a day.
HORIZON = timedelta(days=34)
KEPT = timedelta(days=40)  # longer than the horizon, and than a batch may be held
PAGE = 500
MOST_PAGES = 20
NOT_ENDED = frozenset({"pending", "delayed", "running", "closing"})
MOST_CLAIM_S = 15.0
PURGE_EVERY_MS = 600_000
logger = logging.getLogger(__name__)


class Books:
    """The books in Redis, built anew from SQL when they are missing, rolled back or wrong."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: BudgetStore,
        patience_s: float = 20.0,
        claim_s: float = MOST_CLAIM_S,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._patience_s = patience_s
        self._claim_ms = int(min(claim_s, MOST_CLAIM_S) * 1000)
        self._one_at_a_time = asyncio.Lock()

    async def rebuild(self, *, wrong_epoch: int | None = None) -> None:
        """Return when Redis' books are of SQL's epoch, and not of `wrong_epoch`.

        Any number of workers may ask at once: one builds, and should two, the newer epoch stands. Raises
        BudgetUnavailable or LedgerUnavailable when that cannot be had within `patience_s`.
        """
        end = time.monotonic() + self._patience_s
        async with self._one_at_a_time:
            while not await self._agree(wrong_epoch):
                if time.monotonic() > end:
                    raise BudgetUnavailable("the budget's books could not be built from SQL in time")
                if await self._store.claim("rebuild", for_ms=self._claim_ms):
                    try:
                        # another may have built just before this claim
                        if not await self._agree(wrong_epoch):
                            await self._build()
                    finally:
                        await self._store.release("rebuild")
                else:
                    await asyncio.sleep(0.05)

    async def _agree(self, wrong_epoch: int | None) -> bool:
        epoch = (await self._store.standing()).epoch
        return epoch is not None and epoch != wrong_epoch and epoch == await self._ledger.epoch()

    async def _build(self) -> None:
        now = datetime.fromtimestamp(await self._store.now_ms() / 1000, UTC)
        newest = await self._store.newest_epoch()
        sums = await self._ledger.rebuild_sums(since=now - HORIZON, above=newest)
        installed = await install(self._store, sums)
        logger.info("the budget's books were built from SQL: epoch %d, installed %s", sums.epoch, installed)


async def install(store: BudgetStore, sums: RebuildSums) -> bool:
    """Turn Redis' books to what SQL has counted; False when they are newer."""
    holds = [
        Hold(
            one.id, one.worst_pico, one.windows, BatchName(one.tenant, one.batch_id) if one.batch_id else None
        )
        for one in sums.holds
    ]
    batches = [
        BatchHold(
            BatchName(one.tenant, one.id), one.reserved_pico, one.reserved_pico - one.left_pico, one.windows
        )
        for one in sums.batches
    ]
    return await store.install(
        epoch=sums.epoch,
        settled=sums.settled,
        holds=holds,
        batches=batches,
        changes=_changes(sums.overrides),
    )


async def sync_limits(ledger: Ledger, store: BudgetStore) -> None:
    """Let Redis hold what operators have changed of budgets, as SQL says; books that are still to be built will."""
    overrides = await ledger.overrides(since=datetime.now(UTC) - HORIZON)
    await store.set_limits(_changes(overrides))


def _changes(overrides: Overrides) -> LimitChanges:
    return LimitChanges(overrides.version, overrides.limits, overrides.top_ups)


@dataclass(frozen=True)
class Reaped:
    """What one round did: calls taken as uncertain, attempts settled in Redis, holds given back."""

    uncertain: int = 0
    mirrored: int = 0
    freed: int = 0


class Reaper:
    """Ends what dead workers left, in bounded rounds; one worker at a time, to save work."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: BudgetStore,
        lanes: Lanes,
        books: Books,
        grace_s: float = 60.0,
        retention: timedelta = RETENTION,
        page: int = PAGE,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._lanes = lanes
        self._books = books
        self._grace_s = grace_s
        self._retention = retention
        self._page = page
        self._held_after_end: set[UUID] = set()

    async def tick(self) -> None:
        """One round, unless another worker is at it. What cannot be reached now is left to the next one."""
        try:
            if not await self._store.claim("reaper", for_ms=int(max(1.0, self._grace_s) * 1000)):
                return
            try:
                await self.reap()
                if await self._store.claim("purge", for_ms=PURGE_EVERY_MS):
                    await self._ledger.purge_content(finished_before=datetime.now(UTC) - self._retention)
                    await self._ledger.purge_batches(before=datetime.now(UTC) - KEPT)
                    await self._ledger.add_partitions()
            finally:
                await self._store.release("reaper")
        except (BudgetUnavailable, LedgerUnavailable, LedgerRefused, redis.exceptions.RedisError) as error:
            logger.warning("the reaper's round was cut short: %s", error)

    async def reap(self) -> Reaped:
        """One round: dead calls, then rows that Redis has not confirmed, then holds without a row."""
        uncertain = await self._end_dead_calls()
        mirrored = await self._settle_unmirrored()
        freed = await self._free_holds_without_call()
        await self._close_batches()
        await sync_limits(self._ledger, self._store)
        done = Reaped(uncertain, mirrored, freed)
        if done != Reaped():
            logger.info(
                "reaped: %d uncertain, %d settled in Redis, %d holds freed", uncertain, mirrored, freed
            )
        return done

    async def _end_dead_calls(self) -> int:
        """A call whose delivery nobody holds any more is uncertain, at its worst case."""
        latest = datetime.fromtimestamp(await self._store.now_ms() / 1000 - self._grace_s, UTC)
        ended, after = 0, None
        for _ in range(MOST_PAGES):
            rows = await self._ledger.in_flight(limit=PAGE, after=after)
            old = [attempt for attempt in rows if attempt.created_at < latest]
            live = await self._lanes.live([attempt.tag for attempt in old]) if old else frozenset()
            dead = [attempt.id for attempt in old if attempt.tag not in live]
            ended += len(await self._ledger.mark_uncertain(dead)) if dead else 0
            if len(old) < PAGE:
                break
            after = old[-1].id
        return ended

    async def _settle_unmirrored(self) -> int:
        """Redis is told again what SQL has settled. An amount that its books do not know needs a rebuild."""
        total, after = 0, None
        for _ in range(MOST_PAGES):
            rows = await self._ledger.unmirrored(limit=PAGE, after=after)
            total += await self._mirror(rows) if rows else 0
            if len(rows) < PAGE:
                break
            after = rows[-1].id
        return total

    async def _mirror(self, rows: Sequence[SettledAttempt]) -> int:
        oldest = datetime.fromtimestamp(await self._store.now_ms() / 1000, UTC) - HORIZON
        epoch = await self._ledger.epoch()
        amounts = {row.id: row.amount_pico for row in rows}
        # In no window, or only in windows that nothing can draw on any more: there is nothing to tell Redis.
        outside = [row.id for row in rows if not row.windows or created_at(row.id) < oldest]
        done = {attempt_id: (epoch, amounts[attempt_id]) for attempt_id in outside}
        answers = await self._store.settle_all(
            {i: a for i, a in amounts.items() if i not in done},
            returning=frozenset(row.id for row in rows if row.returns_share),
        )
        unknown = [answer for answer in answers.values() if isinstance(answer, Unknown)]
        for attempt_id, answer in answers.items():
            if isinstance(answer, Settled):
                done[attempt_id] = (answer.epoch, amounts[attempt_id])
        await self._ledger.mirrored(done)
        if unknown:
            await self._books.rebuild(wrong_epoch=unknown[0].epoch)
        return len(done)

    async def _free_holds_without_call(self) -> int:
        """A hold without a row is of a worker that never journalled: its row is made void first, so that the
        worker's own is refused should it only have been paused, and then the hold is given back."""
        freed, skip, ended = 0, 0, set[UUID]()
        for _ in range(MOST_PAGES):
            held = await self._store.holds(grace_ms=int(self._grace_s * 1000), skip=skip, limit=PAGE)
            states = await self._ledger.known(held) if held else {}
            void = await self._void(held, states)
            if void:
                await self._store.free(void)
            ended.update(i for i, state in states.items() if state not in ("in_flight", "void"))
            freed += len(void)
            skip += len(held) - len(void)
            if len(held) < PAGE:
                break
        await self._rebuild_if_still_held(ended)
        return freed

    async def _void(self, held: Sequence[UUID], states: Mapping[UUID, str]) -> list[UUID]:
        void = [attempt_id for attempt_id in held if states.get(attempt_id) == "void"]
        without_row = [attempt_id for attempt_id in held if attempt_id not in states]
        if without_row:
            void += await self._ledger.void(without_row)
        return void

    async def _close_batches(self) -> None:
        """A batch is over in SQL first, then in Redis. One without a row is of a worker that died opening it,
        and that nobody will open."""
        ended = await self._ledger.end_batches(limit=self._page)
        if ended:
            await self._store.close_batches([BatchName(tenant, key) for key, tenant in ended.items()])
        skip = 0
        for _ in range(MOST_PAGES):
            held = await self._store.batches(grace_ms=int(self._grace_s * 1000), skip=skip, limit=self._page)
            skip += len(held) - await self._close_in_redis(held)
            if len(held) < self._page:
                break

    async def _close_in_redis(self, held: Sequence[BatchName]) -> int:
        """Those that SQL has closed, or never opened; how many."""
        states = await self._ledger.batch_states([batch.id for batch in held])
        unknown = {batch.id: batch.tenant for batch in held if batch.id not in states}
        for batch_id, job in zip(
            unknown.copy(), await self._lanes.states(list(map(str, unknown))), strict=True
        ):
            if job.state in NOT_ENDED:  # whoever gets the job opens the batch that it has reserved already
                del unknown[batch_id]
        if unknown:
            await self._ledger.void_batches(unknown)
            states |= await self._ledger.batch_states(list(unknown))
        closed = [batch for batch in held if states.get(batch.id) == "closed"]
        if closed:
            await self._store.close_batches(closed)
        return len(closed)

    async def _rebuild_if_still_held(self, ended: set[UUID]) -> None:
        """A round settles whatever ended before it. What two rounds find held is in no order of writes: a reservation
        that the network kept back for hours, say. Only a rebuild gives it back."""
        stuck, self._held_after_end = ended & self._held_after_end, ended
        if stuck:
            logger.warning("%d attempts are held though they have ended: the books are wrong", len(stuck))
            await self._books.rebuild(wrong_epoch=(await self._store.standing()).epoch)
