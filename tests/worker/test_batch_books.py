"""A batch's money against real servers: what its lines draw, what comes back, and the interleavings 17 and 18."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio

from producer_sdk.contract import Job, uuid7
from producer_sdk.contract.envelope import pack
from tests.worker.money_desk import LIMIT, Desk, answer_costing, attempt_of, open_desk
from worker.books import Reaper
from worker.budget.records import BatchName, Refused, Reserved
from worker.budget.rules import WindowLimit, windows
from worker.job_run import Attempt
from worker.ledger.ledger import Ledger


@pytest.fixture
async def desk(client: redis.asyncio.Redis, namespace: str, ledger_url: str) -> AsyncIterator[Desk]:
    """Empty books at SQL's epoch, on SQLite and on PostgreSQL."""
    Ledger(ledger_url).migrate()
    new = open_desk(client, namespace, ledger_url)
    await new.books.rebuild()
    yield new
    await new.close()


@pytest.fixture
def today() -> WindowLimit:
    """Acme's window of today."""
    (window,) = windows(attempt_of(1).job_run.known_tenant(), datetime.now(UTC))
    return window


async def reserved(
    desk: Desk, window: WindowLimit, pico: int, *, lines: int = 2, for_s: float = 3600, in_sql: bool = True
) -> BatchName:
    """A batch of acme that holds so much."""
    desk.windows_seen.add(window.name)
    batch, now = BatchName("acme", uuid7()), datetime.now(UTC)
    answer = await desk.store.open_batch(batch, amount_pico=pico, windows=[window], now=now)
    assert isinstance(answer, Reserved)
    if in_sql:
        stands = await desk.ledger.open_batch(
            batch.id,
            tenant="acme",
            reserved_pico=pico,
            lines=lines,
            windows=answer.covered,
            expires_at=now + timedelta(seconds=for_s),
            epoch=answer.epoch,
        )
        assert not isinstance(stands, str)
    return batch


async def line(desk: Desk, batch: BatchName, worst_pico: int) -> Attempt:
    """A line of the batch, journalled."""
    attempt = attempt_of(worst_pico)
    attempt.job_run.batch_id = batch.id
    assert await desk.reserve(attempt, batch=batch)
    assert await desk.journal(attempt)
    return attempt


async def settled(desk: Desk, attempt: Attempt, pico: int, state: str = "settled") -> None:
    """The attempt's end, in SQL and in Redis."""
    await desk.settle_in_sql(attempt, pico, state=state)
    returns = state in ("failed", "void")
    assert await desk.settle_in_redis(attempt.id, pico, returns_share=returns)


async def test_nobody_else_can_spend_what_a_batch_holds_and_its_lines_can(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 80)
    assert await desk.store.window(today.name) == (0, 80)
    assert not await desk.reserve(attempt_of(30))
    first = await line(desk, batch, 40)
    assert first.batch_id == batch.id
    assert await desk.store.window(today.name) == (0, 80)
    await settled(desk, first, 5)
    assert await desk.store.window(today.name) == (5, 40)  # what the line did not need is the tenant's again
    assert await desk.reserve(attempt_of(30))
    await desk.ledger.give_up_batches([batch.id], tenant="acme")
    await desk.come_to_rest()
    assert desk.counted() == 5


async def test_a_line_that_failed_gives_its_share_back_to_the_batch(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 40)
    assert await desk.reserve(attempt_of(60))  # nothing is left beside the batch
    first = await line(desk, batch, 40)
    await settled(desk, first, 0, state="failed")
    again = await line(desk, batch, 40)
    assert again.batch_id == batch.id
    await settled(desk, again, 7)
    await desk.ledger.give_up_batches([batch.id], tenant="acme")
    await desk.come_to_rest()
    assert desk.counted() == 7


async def test_a_line_that_its_batch_cannot_pay_draws_on_the_windows(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 30)
    dear = await line(desk, batch, 60)
    assert (dear.batch_id, dear.windows) == (None, (today.name,))
    assert await desk.store.window(today.name) == (0, 90)
    await settled(desk, dear, 10)
    await desk.ledger.give_up_batches([batch.id], tenant="acme")
    await desk.come_to_rest()


async def test_another_tenants_line_finds_no_batch_under_this_id(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, LIMIT)
    foreign = replace(today, name=today.name.replace("acme", "globex"))
    answer = await desk.store.reserve(
        uuid7(), amount_pico=10, windows=[foreign], batch=BatchName("globex", batch.id)
    )
    assert isinstance(answer, Reserved)
    assert answer.covered == ()
    await desk.ledger.give_up_batches([batch.id], tenant="acme")
    assert await desk.ledger.give_up_batches([batch.id], tenant="globex") == []


async def test_a_line_after_midnight_is_charged_to_the_day_on_which_its_batch_reserved(
    desk: Desk, today: WindowLimit
):
    yesterday = replace(today, name=today.name[:-10] + "2026-01-01", date="2026-01-01")
    batch = await reserved(desk, yesterday, 50)
    late = await line(desk, batch, 50)
    assert late.windows == (yesterday.name,)
    await settled(desk, late, 20)
    assert await desk.store.window(today.name) == (0, 0)
    await desk.ledger.give_up_batches([batch.id], tenant="acme")
    await desk.come_to_rest()
    assert desk.counted(yesterday.name) == 20


async def test_a_window_that_the_batch_does_not_cover_needs_room_of_its_own(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 50)
    provider = WindowLimit("p:twin:d:2026-11-24", 15, "2026-11-24", None, is_shared=True)
    for amount, kind in ((10, Reserved), (10, Refused)):
        answer = await desk.store.reserve(uuid7(), amount_pico=amount, windows=[today, provider], batch=batch)
        assert isinstance(answer, kind)
    assert await desk.store.window(today.name) == (0, 50)
    assert await desk.store.window(provider.name) == (0, 10)


async def test_a_batch_that_does_not_fit_holds_nothing(desk: Desk, today: WindowLimit):
    assert await desk.reserve(attempt_of(30))
    answer = await desk.store.open_batch(
        BatchName("acme", uuid7()), amount_pico=80, windows=[today], now=datetime.now(UTC)
    )
    assert isinstance(answer, Refused)
    assert (answer.settled_pico, answer.held_pico) == (0, 30)
    assert await desk.store.window(today.name) == (0, 30)
    assert await desk.store.batches(grace_ms=-1000) == []


async def test_interleaving_17_a_rebuild_counts_what_is_left_of_open_batches(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 80)
    first = await line(desk, batch, 30)
    await settled(desk, first, 10)
    await line(desk, batch, 20)  # under way when Redis is lost
    await desk.flush()
    await desk.books.rebuild()
    assert await desk.store.window(today.name) == (10, 50)
    assert not await desk.reserve(attempt_of(41))
    third = await line(desk, batch, 30)
    assert third.batch_id == batch.id
    await settled(desk, third, 5)
    await desk.ledger.give_up_batches([batch.id], tenant="acme")
    await desk.come_to_rest()
    assert desk.counted() == 10 + 20 + 5  # nobody knows what the second line came to


async def test_interleaving_17_what_is_never_put_expires(desk: Desk, today: WindowLimit):
    await reserved(desk, today, 80, for_s=-1)
    await desk.flush()
    await desk.books.rebuild()
    assert await desk.store.window(today.name) == (0, 80)
    await desk.reaper.reap()
    assert await desk.store.window(today.name) == (0, 0)
    assert await desk.reserve(attempt_of(LIMIT))


@pytest.mark.parametrize("lost", ["nothing", "the reply", "Redis"])
async def test_interleaving_18_a_lines_return_that_is_replayed_counts_once(
    desk: Desk, today: WindowLimit, lost: str
):
    batch = await reserved(desk, today, 60)
    first = await line(desk, batch, 40)
    await settled(desk, first, 0, state="failed")
    if lost == "the reply":
        assert await desk.settle_in_redis(first.id, 0, returns_share=True)
    if lost == "Redis":  # rolled back to before the return, then built anew
        await desk.flush()
        await desk.books.rebuild()
        assert await desk.settle_in_redis(first.id, 0, returns_share=True) is None
    await line(desk, batch, 40)
    over = await line(desk, batch, 40)
    assert over.batch_id is None, "only 20 are left"
    assert await desk.store.window(today.name) == (0, 100)
    await desk.ledger.give_up_batches([batch.id], tenant="acme")
    await desk.come_to_rest()


async def test_a_worker_that_died_opening_a_batch_leaves_nothing_held(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 80, in_sql=False)
    await desk.reaper.reap()
    assert await desk.store.window(today.name) == (0, 0)
    stands = await desk.ledger.open_batch(
        batch.id,
        tenant="acme",
        reserved_pico=80,
        lines=1,
        windows=(today.name,),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        epoch=await desk.ledger.epoch(),
    )
    assert stands == "closed"


async def test_a_batch_whose_job_will_be_delivered_again_is_left_to_that_delivery(
    desk: Desk, today: WindowLimit
):
    batch = await reserved(desk, today, 80, in_sql=False)
    asked = Job(tenant="acme", task="fairlane.reserve", job_id=batch.id, messages="…")
    await desk.lanes.put([pack(asked)], ttl_s=60)
    await desk.reaper.reap()
    assert await desk.store.window(today.name) == (0, 80)
    await desk.lanes.cancel(str(batch.id))
    await desk.reaper.reap()
    assert await desk.store.window(today.name) == (0, 80), "a worker has still to write its end"
    await desk.flush()


async def test_a_batch_ends_with_its_last_line(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 80, lines=2)
    for number in range(2):
        attempt = await line(desk, batch, 20)
        await settled(desk, attempt, 5)
        await desk.ledger.finish(attempt.job_run, attempt.job_run.result_of(answer_costing(5)))
        await desk.reaper.reap()
        left = 0 if number else 60
        assert await desk.store.window(today.name) == (5 * (number + 1), left)


async def test_fewer_lines_than_were_reserved_for_end_it_too(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 80, lines=2)
    later = datetime.now(UTC) + timedelta(hours=1)
    await desk.ledger.confirm_batches({batch.id: 1}, tenant="globex", expires_at=later)
    attempt = await line(desk, batch, 20)
    await settled(desk, attempt, 5)
    await desk.ledger.finish(attempt.job_run, attempt.job_run.result_of(answer_costing(5)))
    await desk.reaper.reap()
    assert await desk.store.window(today.name) == (5, 60)
    await desk.ledger.confirm_batches({batch.id: 1}, tenant="acme", expires_at=later)
    await desk.reaper.reap()
    assert await desk.store.window(today.name) == (5, 0)


async def test_what_a_batch_spends_reaches_a_soft_limit_too(desk: Desk, today: WindowLimit):
    soft = replace(today, soft_limit=(50,))
    batch = await reserved(desk, soft, 90, lines=9)
    told = []
    for _ in range(9):
        attempt = attempt_of(10)
        answer = await desk.store.reserve(attempt.id, amount_pico=10, windows=[soft], batch=batch)
        assert isinstance(answer, Reserved)
        told += answer.soft
        attempt.epoch, attempt.windows, attempt.batch_id = answer.epoch, answer.covered, batch.id
        assert await desk.journal(attempt)
        await settled(desk, attempt, 10)
    assert [(one.window.name, one.percent) for one in told] == [(today.name, 50)]


async def test_a_job_of_another_tenant_ends_no_batch(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 80, lines=1)
    other = attempt_of(1)
    other.job_run.job = other.job_run.job.model_copy(update={"tenant": "globex"})
    other.job_run.batch_id = batch.id
    await desk.ledger.finish(other.job_run, other.job_run.result_of(answer_costing(0)))
    await desk.reaper.reap()
    assert await desk.store.window(today.name) == (0, 80)


async def test_a_batch_that_was_given_up_before_it_was_opened_is_never_opened(desk: Desk, today: WindowLimit):
    early = uuid7()
    assert await desk.ledger.give_up_batches([early], tenant="acme") == [early]
    stands = await desk.ledger.open_batch(
        early,
        tenant="acme",
        reserved_pico=80,
        lines=1,
        windows=(today.name,),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        epoch=await desk.ledger.epoch(),
    )
    assert stands == "closed"


async def test_a_line_that_cost_more_than_its_worst_case_draws_no_more_than_that(
    desk: Desk, today: WindowLimit
):
    batch = await reserved(desk, today, 60)
    dear = await line(desk, batch, 20)
    await settled(desk, dear, 30, state="failed")
    assert await desk.store.window(today.name) == (30, 40)
    await desk.flush()
    await desk.books.rebuild()
    assert await desk.store.window(today.name) == (30, 40)


async def test_more_batches_than_one_look_are_closed(desk: Desk, today: WindowLimit):
    reaper = Reaper(
        ledger=desk.ledger, store=desk.store, lanes=desk.lanes, books=desk.books, grace_s=-1.0, page=3
    )
    kept = [await reserved(desk, today, 5) for _ in range(4)]
    gone = [await reserved(desk, today, 5) for _ in range(4)]
    for batch in gone:
        await desk.ledger.give_up_batches([batch.id], tenant="acme")
    await reaper.reap()
    assert await desk.store.window(today.name) == (0, 20)
    assert await desk.store.batches(grace_ms=-1000) == kept


async def test_a_batch_that_stands_is_answered_as_it_is_held(desk: Desk, today: WindowLimit):
    batch = await reserved(desk, today, 60, lines=7)
    stands = await desk.ledger.open_batch(
        batch.id,
        tenant="acme",
        reserved_pico=50,
        lines=1,
        windows=(),
        expires_at=datetime.now(UTC),
        epoch=await desk.ledger.epoch(),
    )
    assert not isinstance(stands, str)
    assert (stands.reserved_pico, stands.lines, stands.windows) == (60, 7, (today.name,))


async def test_old_batches_are_forgotten(desk: Desk, today: WindowLimit):
    closed, still_open = await reserved(desk, today, 5), await reserved(desk, today, 5)
    await desk.ledger.give_up_batches([closed.id], tenant="acme")
    await desk.ledger.purge_batches(before=datetime.now(UTC) + timedelta(seconds=5))
    assert await desk.ledger.batch_states([closed.id, still_open.id]) == {still_open.id: "open"}
