"""The rebuild and the reaper against real servers: the interleavings that broke earlier drafts, by number.

W1 and W2 are workers; each awaits its steps one by one, so that a test stops it wherever it wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import pytest
import redis.asyncio

from producer_sdk.contract import Straight, uuid7
from producer_sdk.contract.envelope import LaneEntry
from tests.servers import Valkey
from tests.worker.money_desk import LIMIT, Desk, answer_costing, attempt_of, no_runs, open_desk, told_nobody
from worker.books import Books, Reaper
from worker.budget.rules import WindowLimit, windows
from worker.budget.step import HoldBudget
from worker.budget.store import NeedsRebuild
from worker.errors import BudgetUnavailable, HandBack, JobStopped
from worker.job_run import Answer, Attempt
from worker.ledger.ledger import Ledger
from worker.ledger.step import JournalAttempt

T = TypeVar("T")


@pytest.fixture
async def desk(client: redis.asyncio.Redis, namespace: str, ledger_url: str) -> AsyncIterator[Desk]:
    """Empty books at SQL's epoch, on SQLite and on PostgreSQL."""
    Ledger(ledger_url).migrate()
    new = open_desk(client, namespace, ledger_url)
    await new.books.rebuild()
    yield new
    await new.close()


@pytest.fixture
def today() -> str:
    """The name of acme's window of today."""
    (window,) = windows(attempt_of(1).job_run.known_tenant(), datetime.now(UTC))
    return window.name


async def test_interleaving_5_a_paused_worker_that_finds_its_lease_lost_pays_nothing(desk: Desk, today: str):
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    assert await desk.journal(w1)
    await desk.reaper.reap()
    assert (desk.states(), await desk.store.window(today)) == (["uncertain"], (40, 0))
    await desk.whole(60, 10)  # W2 calls
    await desk.settle_in_sql(w1, 0, state="void")  # W1 resumes: its lease is lost, it does not call
    await desk.come_to_rest()
    assert desk.counted() == 10


async def test_interleaving_10_only_one_of_two_that_reserved_the_same_money_is_journalled(desk: Desk):
    w1, w2 = attempt_of(LIMIT), attempt_of(LIMIT)
    assert await desk.reserve(w1)
    await desk.flush()
    await desk.books.rebuild()
    assert await desk.reserve(w2)
    assert not await desk.journal(w1)
    assert await desk.journal(w2)
    assert desk.counted() == LIMIT
    await desk.settle_in_sql(w2, 30)
    await desk.come_to_rest()


async def test_interleaving_11_a_hold_installed_after_its_attempt_has_settled_does_not_stay(
    desk: Desk, today: str
):
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    assert await desk.journal(w1)
    await desk.flush()
    sums = await desk.sums()
    await desk.settle_in_sql(w1, 5)
    assert await desk.settle_in_redis(w1.id, 5) is None
    assert await desk.install(sums)
    assert await desk.store.window(today) == (0, 40)
    await desk.come_to_rest()
    assert await desk.store.window(today) == (5, 0)


async def test_interleaving_12_killed_between_sql_and_redis_settles_all_the_same(desk: Desk, today: str):
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    assert await desk.journal(w1)
    await desk.settle_in_sql(w1, 3, state="failed")
    assert (await desk.reaper.reap()).mirrored == 1
    assert await desk.store.window(today) == (3, 0)
    await desk.come_to_rest()


async def test_interleaving_13_a_late_settle_reaches_the_window_though_its_worker_dies(
    desk: Desk, today: str
):
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    assert await desk.journal(w1)
    await desk.reaper.reap()
    assert await desk.store.window(today) == (40, 0)
    await desk.settle_in_sql(w1, 12)  # and is killed before Redis has the difference
    await desk.come_to_rest()
    assert await desk.store.window(today) == (12, 0)


async def test_interleaving_14_a_hold_that_was_never_journalled_is_freed_and_costs_nothing(
    desk: Desk, today: str
):
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    assert (await desk.reaper.reap()).freed == 1
    assert (desk.states(), desk.counted()) == (["void"], 0)
    assert await desk.store.window(today) == (0, 0)


async def test_interleaving_15_a_worker_that_was_only_paused_is_refused_and_reserves_anew(desk: Desk):
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    await desk.reaper.reap()
    assert not await desk.journal(w1)
    anew = w1.renewed()
    assert await desk.reserve(anew)
    assert await desk.journal(anew)
    await desk.settle_in_sql(anew, 4)
    await desk.come_to_rest()
    assert desk.states() == ["settled", "void"]


async def test_interleaving_16_windows_that_a_restart_rolled_back_admit_nothing(
    own_valkey: Valkey, namespace: str, ledger_url: str, today: str
):
    Ledger(ledger_url).migrate()
    connection = redis.asyncio.Redis.from_url(own_valkey.redis_url)
    desk = open_desk(connection, namespace, ledger_url)
    await desk.books.rebuild()
    await desk.whole(70, 70)
    key = f"{namespace}:{{fleet}}:budget:{(await desk.store.standing()).epoch}:w:{today}"
    await connection.hset(key, "used", "10")  # what an fsync that was under way did not keep
    own_valkey.kill()
    own_valkey.start()
    await connection.connection_pool.disconnect()  # its old connection would only say that it is lost
    w2 = attempt_of(60)
    limits = windows(w2.job_run.known_tenant(), w2.created_at)
    assert await desk.store.reserve(w2.id, amount_pico=60, windows=limits) == NeedsRebuild()
    await desk.books.rebuild()
    assert not await desk.reserve(w2)
    assert await desk.store.window(today) == (70, 0)
    await desk.close()
    await connection.aclose()


async def test_interleaving_19_what_was_reserved_before_midnight_is_charged_to_that_day(desk: Desk):
    yesterday = WindowLimit("t:acme:d:2026-11-22", LIMIT, "2026-11-22", datetime(2026, 11, 23, tzinfo=UTC))
    w1 = attempt_of(40)
    assert await desk.reserve(w1, windows=(yesterday,))
    assert await desk.journal(w1)
    await desk.settle_in_sql(w1, 15)  # after midnight
    await desk.settle_in_redis(w1.id, 15)
    assert await desk.store.window(yesterday.name) == (15, 0)
    await desk.flush()
    await desk.books.rebuild()
    assert await desk.store.window(yesterday.name) == (15, 0)
    await desk.come_to_rest()


class Twice(Straight):
    """Every script and every commit is done twice, as when its reply was lost and the client repeats it."""

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        await do()
        return await do()

    def cross_blocking(self, name: str, do: Callable[[], T]) -> T:
        do()
        return do()


def worker_of(desk: Desk) -> Callable[[Attempt, int], Awaitable[Answer]]:
    """HoldBudget and JournalAttempt around a call that costs what it is told."""
    hold = HoldBudget(
        store=desk.store,
        rebuild=desk.books.rebuild,
        mirrored=desk.ledger.mirrored,
        runs=no_runs,
        warn=told_nobody,
    )
    journal = JournalAttempt(desk.ledger)

    async def call(attempt: Attempt, pico: int) -> Answer:
        async def provider(called: Attempt) -> Answer:
            called.sent = True
            await asyncio.sleep(0)
            return answer_costing(pico)

        async def journalled(held: Attempt) -> Answer:
            return await journal.run(held, provider)

        return await hold.run(attempt, journalled)

    return call


async def test_interleaving_3_an_attempt_whose_every_reply_is_lost_once_counts_once(
    client: redis.asyncio.Redis, namespace: str, ledger_url: str, today: str
):
    Ledger(ledger_url).migrate()
    desk = open_desk(client, namespace, ledger_url, crossing=Twice())
    await worker_of(desk)(attempt_of(40), 7)
    assert (desk.states(), desk.counted()) == (["settled"], 7)
    assert await desk.store.window(today) == (7, 0)
    await desk.come_to_rest()
    await desk.close()


async def test_an_attempt_in_peace_leaves_the_reaper_nothing_to_do(desk: Desk, today: str):
    await worker_of(desk)(attempt_of(40), 7)
    assert await desk.store.window(today) == (7, 0)
    assert (await desk.reaper.reap()).mirrored == 0
    assert [row.is_mirrored for row in desk.rows()] == [True]


async def test_many_workers_at_once_never_pass_the_limit_though_redis_is_flushed_midway(
    client: redis.asyncio.Redis, namespace: str, ledger_url: str, today: str
):
    Ledger(ledger_url).migrate()
    desks = [open_desk(client, namespace, ledger_url) for _ in range(3)]
    for desk in desks:
        desk.windows_seen.add(today)

    async def jobs(desk: Desk, how_many: int) -> int:
        answered, call = 0, worker_of(desk)
        for number in range(how_many):
            if number == how_many // 2 and desk is desks[0]:
                await desk.flush()
            try:
                await call(attempt_of(9), 4)
                answered += 1
            except (JobStopped, HandBack):
                pass
        return answered

    answered = sum(await asyncio.gather(*(jobs(desk, 6) for desk in desks for _ in range(4))))
    assert desks[0].counted(today) == 4 * answered <= LIMIT
    assert answered > LIMIT // 9
    await desks[0].come_to_rest()
    for desk in desks:
        await desk.close()


async def test_a_killed_and_restarted_broker_admits_nothing_before_a_rebuild(
    own_valkey: Valkey, namespace: str, ledger_url: str, today: str
):
    Ledger(ledger_url).migrate()
    connection = redis.asyncio.Redis.from_url(own_valkey.redis_url)
    desk = open_desk(connection, namespace, ledger_url)
    call = worker_of(desk)
    await call(attempt_of(40), 30)
    before = await desk.ledger.epoch()
    own_valkey.kill()
    with pytest.raises(HandBack):
        await call(attempt_of(40), 30)
    own_valkey.start()
    await call(attempt_of(40), 30)
    assert await desk.ledger.epoch() == before + 1
    assert await desk.store.window(today) == (60, 0)
    with pytest.raises(JobStopped):
        await call(attempt_of(50), 1)
    await desk.come_to_rest()
    await desk.close()
    await connection.aclose()


async def test_many_that_ask_for_a_rebuild_at_once_get_one(desk: Desk):
    before = await desk.ledger.epoch()
    await desk.flush()
    others = [Books(ledger=desk.ledger, store=desk.store) for _ in range(4)]
    await asyncio.gather(*(books.rebuild() for books in others * 5))
    assert await desk.ledger.epoch() == before + 1
    assert (await desk.store.standing()).epoch == before + 1


async def test_books_that_agree_with_sql_are_not_built_anew(desk: Desk):
    before = await desk.ledger.epoch()
    await desk.books.rebuild()
    assert await desk.ledger.epoch() == before


async def test_a_rebuild_that_died_after_its_sums_is_done_again(desk: Desk):
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    await desk.sums()
    assert not await desk.journal(w1)
    await desk.books.rebuild()
    await desk.whole(LIMIT, 1)
    await desk.come_to_rest()


async def test_books_newer_than_a_restored_database_are_built_anew_above_them(desk: Desk, today: str):
    await desk.whole(40, 40)
    assert await desk.store.install(epoch=500, settled={today: 99}, holds=[])
    await desk.books.rebuild()
    assert await desk.ledger.epoch() == 501
    assert await desk.store.window(today) == (40, 0)


async def test_a_rebuild_gives_up_when_its_books_never_stand(client, namespace: str, tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).migrate()
    desk = open_desk(client, namespace, url)
    await client.set(
        f"{namespace}:{{fleet}}:budget:rebuild", b"1", px=60_000
    )  # another is at it, and is dead
    with pytest.raises(BudgetUnavailable, match="in time"):
        await Books(ledger=desk.ledger, store=desk.store, patience_s=0.2).rebuild()
    await desk.close()


async def test_a_late_settle_whose_record_has_expired_is_counted_by_a_rebuild(desk: Desk, today: str):
    w1 = await desk.whole(40, 40)
    w2 = attempt_of(40)
    assert await desk.reserve(w2)
    assert await desk.journal(w2)
    await desk.reaper.reap()
    for attempt in (w1, w2):
        await desk.expire(attempt.id)
    await desk.settle_in_sql(w2, 1)
    assert await desk.store.window(today) == (80, 0)
    await desk.reaper.reap()
    assert await desk.store.window(today) == (41, 0)
    await desk.come_to_rest()


async def test_a_reservation_that_arrives_hours_late_is_given_back(desk: Desk, today: str):
    w1 = await desk.whole(40, 10)
    await desk.expire(w1.id)
    assert await desk.reserve(w1)  # the same bytes, kept back by the network
    assert await desk.store.window(today) == (10, 40)
    await desk.reaper.reap()
    await desk.reaper.reap()
    assert await desk.store.window(today) == (10, 0)
    await desk.come_to_rest()


async def test_a_call_whose_delivery_lives_is_left_alone(desk: Desk):
    entry = LaneEntry(str(uuid7()), "acme", "interactive", b"message", digest="1", cost=1)
    await desk.lanes.put([entry], ttl_s=60)
    taken = await desk.lanes.take(1, worker="w1", lease_ms=60_000, op_id="op1")
    w1 = attempt_of(40, tag=taken.deliveries[0].tag)
    assert await desk.reserve(w1)
    assert await desk.journal(w1)
    await desk.reaper.reap()
    assert desk.states() == ["in_flight"]


async def test_nothing_younger_than_the_grace_is_touched(desk: Desk):
    reaper = Reaper(ledger=desk.ledger, store=desk.store, lanes=desk.lanes, books=desk.books, grace_s=60)
    w1, w2 = attempt_of(20), attempt_of(20)
    assert await desk.reserve(w1)
    assert await desk.journal(w1)
    assert await desk.reserve(w2)
    await reaper.reap()
    assert desk.states() == ["in_flight"]
    assert len(await desk.store.holds(grace_ms=-60_000)) == 2


async def test_one_worker_at_a_time_does_the_reapers_round(desk: Desk):
    w1 = attempt_of(20)
    assert await desk.reserve(w1)
    assert await desk.store.claim("reaper", for_ms=60_000)
    await desk.reaper.tick()
    assert desk.states() == []
    await desk.store.release("reaper")
    await desk.reaper.tick()
    assert desk.states() == ["void"]
    assert await desk.store.claim("reaper", for_ms=1)


async def test_a_broker_that_is_away_cuts_a_round_short_and_no_more(
    own_valkey: Valkey, namespace: str, tmp_path
):
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    Ledger(url).migrate()
    connection = redis.asyncio.Redis.from_url(own_valkey.redis_url)
    desk = open_desk(connection, namespace, url, timeout_s=0.5)
    own_valkey.kill()
    await desk.reaper.tick()
    await desk.close()
    await connection.aclose()
