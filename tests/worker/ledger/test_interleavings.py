"""The interleavings that broke earlier drafts, on the side of SQL, by number. W1 and W2 are workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from producer_sdk.contract import created_at
from tests.worker.job_runs import Rest, answer_of, job_of
from tests.worker.ledger.writing import (
    PAID,
    TODAY,
    WORST,
    attempt_with,
    final_of,
    journalled,
    opened,
    run_with,
)
from worker.errors import JournalRefused
from worker.ledger.ledger import Ledger, Settlement
from worker.ledger.step import RecordJob
from worker.ledger.tables import EPOCH

LONG_AGO = datetime.now(UTC) - timedelta(days=3)


async def test_4_two_workers_finish_one_job_and_the_first_result_stands(url, ledger, sql):
    run = run_with()
    w1, w2 = await journalled(ledger, run), await journalled(ledger, run)
    results = [final_of(run, "first"), final_of(run, "second")]
    async with opened(url) as other:
        standing = await asyncio.gather(
            ledger.settle(w1, PAID, final=results[0]), other.settle(w2, PAID, final=results[1])
        )
    assert standing[0] == standing[1]
    assert standing[0] in results
    assert len(sql.events()) == 2  # both calls were paid
    assert len(sql.jobs()) == 1


async def test_9_a_job_that_has_ended_in_sql_is_published_again_and_not_called(ledger):
    run = run_with()
    final = final_of(run)
    await ledger.settle(await journalled(ledger, run), PAID, final=final)  # killed before settle and ack
    rest = Rest()
    answer = await RecordJob(ledger).run(run_with(run.job, tag="later"), rest)
    assert (answer.standing, answer.text, rest.saw) == (final, "yes", [])


async def test_10_what_was_admitted_by_old_counters_is_refused_by_the_journal(ledger, sql):
    w1 = attempt_with(epoch=0)
    sums = await ledger.rebuild_sums(since=LONG_AGO)
    with pytest.raises(JournalRefused, match="epoch"):
        await ledger.journal(w1, worst_pico=WORST)
    await journalled(ledger, epoch=sums.epoch)
    assert len(sql.attempts()) == 1


async def test_10_the_journal_waits_for_a_rebuild_that_is_under_way(url, ledger, sql):
    attempt = attempt_with(epoch=0)
    with sql.transaction() as rebuild:
        rebuild.execute(select(EPOCH.c.epoch).with_for_update())
        rebuild.execute(EPOCH.update().values(epoch=1))
        journal = asyncio.ensure_future(ledger.journal(attempt, worst_pico=WORST))
        done, _ = await asyncio.wait({journal}, timeout=0.3)
        assert not done
    with pytest.raises(JournalRefused, match="epoch"):
        await journal


async def test_10_a_journal_row_that_a_rebuild_has_counted_may_be_written_again(ledger):
    attempt = await journalled(ledger)
    sums = await ledger.rebuild_sums(since=LONG_AGO)
    assert [hold.id for hold in sums.holds] == [attempt.id]
    await ledger.journal(attempt, worst_pico=WORST)  # the reply was lost, the writer repeats


async def test_11_what_is_settled_after_a_rebuild_counted_it_is_told_to_redis(ledger):
    attempt = await journalled(ledger)
    sums = await ledger.rebuild_sums(since=LONG_AGO)
    await ledger.settle(attempt, PAID)
    await ledger.mirrored({attempt.id: (sums.epoch - 1, 120)})  # Redis' old books had it, the new ones a hold
    assert [row.id for row in await ledger.unmirrored()] == [attempt.id]
    await ledger.mirrored({attempt.id: (sums.epoch, 120)})
    assert await ledger.unmirrored() == []


async def test_12_an_attempt_that_did_not_end_its_job_is_told_to_redis(ledger):
    attempt = await journalled(ledger)
    await ledger.settle(attempt, Settlement("failed", 5))
    assert [(row.id, row.amount_pico) for row in await ledger.unmirrored()] == [(attempt.id, 5)]
    assert (await ledger.look_up(attempt.job_run.job_id)).final is None


async def test_13_a_late_settle_is_told_to_redis_though_the_worst_case_was(ledger):
    attempt = await journalled(ledger)
    await ledger.mark_uncertain([attempt.id])
    await ledger.mirrored({attempt.id: (0, WORST)})
    await ledger.settle(attempt, PAID)
    await ledger.mirrored({attempt.id: (0, WORST)})  # the reaper's word of before comes late
    assert [(row.id, row.amount_pico) for row in await ledger.unmirrored()] == [(attempt.id, 120)]


async def test_14_and_15_a_hold_without_a_row_is_voided_and_its_paused_worker_refused(ledger, sql):
    paused = attempt_with()
    assert await ledger.void([paused.id]) == [paused.id]
    with pytest.raises(JournalRefused):
        await ledger.journal(paused, worst_pico=WORST)
    renewed = paused.renewed()
    await ledger.journal(renewed, worst_pico=WORST)
    assert {row.id: row.state for row in sql.attempts()} == {paused.id: "void", renewed.id: "in_flight"}


async def test_15_a_tombstone_and_the_journal_of_two_processes_meet_and_one_wins(url, ledger, sql):
    async with opened(url) as other:
        for _ in range(20):
            attempt = attempt_with()
            voided, refused = await asyncio.gather(
                other.void([attempt.id]), _refused(ledger, attempt), return_exceptions=False
            )
            assert bool(voided) == refused
    assert len(sql.attempts()) == 20


async def _refused(ledger: Ledger, attempt) -> bool:
    try:
        await ledger.journal(attempt, worst_pico=WORST)
    except JournalRefused:
        return True
    return False


async def test_19_an_attempt_is_charged_to_the_day_it_reserved_in(ledger, sql):
    attempt = await journalled(ledger, windows=("t:acme:d:2026-11-22",))
    await ledger.settle(attempt, PAID)
    sums = await ledger.rebuild_sums(since=LONG_AGO)
    assert sums.settled == {"t:acme:d:2026-11-22": 120}
    (event,) = sql.events()
    assert event.windows == ("t:acme:d:2026-11-22",)
    assert event.created_at == created_at(attempt.id)


async def test_24_a_batch_that_is_repeated_after_redis_was_flushed_is_not_paid_twice(ledger, sql):
    first = run_with(job_of(idempotency_key="line-7"))
    final = final_of(first)
    await ledger.settle(await journalled(ledger, first), PAID, final=final)
    again, rest = run_with(job_of(idempotency_key="line-7")), Rest(answer_of("paid again"))
    answer = await RecordJob(ledger).run(again, rest)
    assert (answer.standing, rest.saw) == (final, [])
    assert len(sql.events()) == 1


async def test_rebuilds_and_settles_at_once_count_every_attempt_once(url, ledger):
    """Whatever meets, an attempt is in the sums or among the holds, never in both or neither."""
    async with opened(url) as reaper:
        attempts = [await journalled(ledger) for _ in range(30)]
        settling = asyncio.gather(*(ledger.settle(attempt, PAID) for attempt in attempts))
        sums = [await reaper.rebuild_sums(since=LONG_AGO) for _ in range(5)]
        await settling
    for one in sums:
        assert one.settled.get(TODAY, 0) == 120 * (len(attempts) - len(one.holds))
