"""Every operation of the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from producer_sdk.contract import ErrorCode, JobError, Usage, uuid7
from tests.worker.job_runs import answer_of, job_of
from tests.worker.ledger.writing import (
    FREE,
    PAID,
    TODAY,
    WORST,
    attempt_with,
    final_of,
    journalled,
    run_with,
)
from worker.errors import JournalRefused
from worker.ledger.ledger import KnownJob, Settlement

LONG_AGO = datetime.now(UTC) - timedelta(days=3)


async def test_a_job_that_nobody_has_begun_is_not_known(ledger):
    assert await ledger.look_up(uuid4()) == KnownJob()


async def test_the_journal_keeps_the_attempt_and_the_message_as_it_came(ledger, sql):
    attempt = await journalled(ledger)
    (row,) = sql.attempts()
    assert (row.id, row.state, row.worst_pico, row.cost_pico) == (attempt.id, "in_flight", WORST, 0)
    assert (row.tenant, row.tag, row.windows) == ("acme", "tag", (TODAY,))
    assert row.created_at == attempt.created_at
    (job,) = sql.jobs()
    assert (job.job_id, job.message, job.status) == (attempt.job_run.job_id, b"the message as it came", None)
    assert sql.events() == []


async def test_a_journal_row_that_is_written_again_is_one_row(ledger, sql):
    attempt = await journalled(ledger)
    await ledger.journal(attempt, worst_pico=WORST)
    assert len(sql.attempts()) == 1


async def test_a_settled_attempt_has_one_usage_row_with_all_that_is_known_of_it(ledger, sql):
    job = job_of(feature="chat", run_id="r1", prompt_version="7")
    attempt = await journalled(ledger, run_with(job), number=2)
    usage = Usage(
        input_tokens=100, output_tokens=20, cache_read_tokens=60, cache_write_tokens=10, reasoning_tokens=5
    )
    settlement = Settlement("settled", 123, usage=usage, model="s-2026", latency_ms=42, saved_pico=7)
    await ledger.settle(attempt, settlement)
    (row,) = sql.events()
    assert row._asdict() == {
        "id": attempt.id,
        "tenant_id": "acme",
        "feature_name": "chat",
        "model_id": "s-2026",
        "input_tokens": 100,
        "output_tokens": 20,
        "cost_usd": Decimal("0.000000000123"),
        "latency_ms": 42,
        "created_at": attempt.created_at,
        "job_id": job.job_id,
        "attempt": 2,
        "provider": "local",
        "deployment": "local/s",
        "task": "ask",
        "run_id": "r1",
        "prompt_version": "7",
        "status": "settled",
        "cache": "provider",
        "cache_read_tokens": 60,
        "cache_write_tokens": 10,
        "reasoning_tokens": 5,
        "saved_usd": Decimal("0.000000000007"),
        "rate_card_id": attempt.call.card.id,
        "routing_version": "1",
        "error_code": None,
        "windows": (TODAY,),
        "own_key": False,
        "list_usd": None,
    }


async def test_a_usage_row_names_the_card_of_the_model_that_answered(ledger, sql):
    await ledger.settle(await journalled(ledger), Settlement("settled", 1, model="l", rate_card_id="another"))
    (row,) = sql.events()
    assert (row.model_id, row.rate_card_id) == ("l", "another")


async def test_a_failed_attempt_has_a_usage_row_with_its_error(ledger, sql):
    await ledger.settle(await journalled(ledger), FREE)
    (row,) = sql.events()
    assert (row.status, row.error_code, row.cost_usd) == ("failed", "overloaded", 0)


async def test_a_void_attempt_has_no_usage_row_and_costs_nothing(ledger, sql):
    await ledger.settle(await journalled(ledger), Settlement("void", 99))
    assert sql.events() == []
    assert [(row.state, row.cost_pico) for row in sql.attempts()] == [("void", 0)]


async def test_a_second_settle_changes_nothing(ledger, sql):
    attempt = await journalled(ledger)
    await ledger.settle(attempt, PAID)
    await ledger.settle(attempt, Settlement("failed", 5))
    await ledger.settle(attempt, Settlement("void", 0))
    assert [(row.state, row.cost_pico) for row in sql.attempts()] == [("settled", 120)]
    assert [row.cost_usd for row in sql.events()] == [Decimal("0.000000000120")]


async def test_a_late_settle_replaces_the_worst_case_once(ledger, sql):
    attempt = await journalled(ledger)
    (uncertain,) = await ledger.mark_uncertain([attempt.id])
    assert (uncertain.id, uncertain.amount_pico, uncertain.windows) == (attempt.id, WORST, (TODAY,))
    await ledger.mirrored({attempt.id: (0, WORST)})
    assert await ledger.unmirrored() == []
    await ledger.settle(attempt, PAID)
    await ledger.settle(attempt, Settlement("settled", 77))
    (row,) = sql.events()
    assert (row.status, row.cost_usd, row.input_tokens) == ("settled", Decimal("0.000000000120"), 10)
    assert [(late.id, late.amount_pico) for late in await ledger.unmirrored()] == [(attempt.id, 120)]


async def test_a_late_void_takes_the_usage_row_away(ledger, sql):
    attempt = await journalled(ledger)
    await ledger.mark_uncertain([attempt.id])
    assert [row.cost_usd for row in sql.events()] == [Decimal("0.000000001000")]
    await ledger.settle(attempt, Settlement("void", 0))
    assert (sql.events(), [row.state for row in sql.attempts()]) == ([], ["void"])


async def test_uncertain_is_settled_at_the_worst_case_whatever_is_said(ledger, sql):
    attempt = await journalled(ledger)
    await ledger.settle(attempt, Settlement("uncertain", 5, error_code="timeout"))
    (row,) = sql.events()
    assert (row.status, row.cost_usd, row.error_code) == ("uncertain", Decimal("0.000000001000"), "timeout")


async def test_marking_uncertain_again_tells_the_same(ledger, sql):
    open_one, settled = await journalled(ledger), await journalled(ledger)
    await ledger.settle(settled, PAID)
    ids = [open_one.id, settled.id, uuid7()]
    first = await ledger.mark_uncertain(ids)
    assert await ledger.mark_uncertain(ids) == first
    assert [row.id for row in first] == [open_one.id]
    assert len(sql.events()) == 2


async def test_a_provider_that_bills_more_than_the_worst_case_is_flagged(ledger, sql):
    attempt = await journalled(ledger)
    await ledger.settle(attempt, Settlement("settled", WORST + 1, model="s"))
    assert [(row.cost_pico, row.over_reserved) for row in sql.attempts()] == [(WORST + 1, True)]
    assert (await ledger.books()).over_reserved == 1


async def test_an_attempt_whose_journal_row_was_lost_is_settled_all_the_same(ledger, sql):
    attempt = attempt_with()
    await ledger.settle(attempt, PAID)
    assert [(row.id, row.state) for row in sql.attempts()] == [(attempt.id, "settled")]
    assert [row.id for row in sql.events()] == [attempt.id]


async def test_a_tombstone_refuses_the_journal_for_ever(ledger, sql):
    attempt = attempt_with()
    assert await ledger.void([attempt.id]) == [attempt.id]
    assert await ledger.void([attempt.id]) == [attempt.id]
    with pytest.raises(JournalRefused, match="void"):
        await ledger.journal(attempt, worst_pico=WORST)
    assert await ledger.known([attempt.id, uuid7()]) == {attempt.id: "void"}
    assert sql.events() == []
    assert await ledger.unmirrored() == []


async def test_what_has_a_row_is_not_made_void(ledger):
    attempt = await journalled(ledger)
    assert await ledger.void([attempt.id]) == []
    assert await ledger.known([attempt.id]) == {attempt.id: "in_flight"}


async def test_attempts_in_flight_are_listed_oldest_first_in_pages(ledger):
    attempts = sorted([await journalled(ledger) for _ in range(3)], key=lambda attempt: attempt.id)
    first = await ledger.in_flight(limit=2)
    rest = await ledger.in_flight(limit=2, after=first[-1].id)
    assert [row.id for row in [*first, *rest]] == [attempt.id for attempt in attempts]
    assert (first[0].tenant, first[0].tag, first[0].worst_pico, first[0].windows) == (
        "acme",
        "tag",
        WORST,
        (TODAY,),
    )
    assert first[0].created_at == attempts[0].created_at


async def test_what_redis_has_confirmed_is_no_longer_listed(ledger):
    one, two = await journalled(ledger), await journalled(ledger)
    await ledger.settle(one, PAID)
    await ledger.settle(two, PAID)
    await ledger.mirrored({one.id: (0, 120), two.id: (0, 119)})
    assert [row.id for row in await ledger.unmirrored()] == [two.id]
    await ledger.mirrored({two.id: (7, 120)})
    assert [row.id for row in await ledger.unmirrored()] == [two.id]


async def test_an_attempt_without_windows_is_never_waiting_for_redis(ledger):
    attempt = await journalled(ledger, windows=(), epoch=99)
    await ledger.settle(attempt, PAID)
    assert await ledger.unmirrored() == []


async def test_a_look_up_counts_what_earlier_deliveries_have_left(ledger):
    run = run_with()
    await journalled(ledger, run)
    settled, failed, void = [await journalled(ledger, run) for _ in range(3)]
    await ledger.settle(settled, PAID)
    await ledger.settle(failed, FREE)
    await ledger.settle(void, Settlement("void", 0))
    unsure = await journalled(ledger, run)
    await ledger.mark_uncertain([unsure.id])
    known = await ledger.look_up(run.job_id)
    assert known == KnownJob(final=None, unresolved=2, attempts=4, spent_pico=120 + WORST)


async def test_a_final_row_is_inserted_once(ledger, sql):
    run = run_with()
    first, second = await journalled(ledger, run), await journalled(ledger, run)
    yes, no = final_of(run, "yes"), final_of(run, "no")
    assert await ledger.settle(first, PAID, final=yes) == yes
    assert await ledger.settle(second, PAID, final=no) == yes
    assert (await ledger.look_up(run.job_id)).final == yes
    assert len(sql.events()) == 2
    (job,) = sql.jobs()
    assert (job.status, job.message) == ("succeeded", b"the message as it came")
    assert job.finished_at is not None


async def test_a_job_that_ends_without_a_call_has_a_final_row(ledger, sql):
    run = run_with()
    ended = run.ended(JobError.of(ErrorCode.POLICY_DENIED, "no"))
    assert await ledger.finish(run, ended) == ended
    assert await ledger.finish(run, final_of(run)) == ended
    assert (await ledger.look_up(run.job_id)).final == ended
    assert sql.events() == []


async def test_a_job_that_a_cache_answered_has_one_usage_row_with_what_it_saved(ledger, sql):
    run = run_with()
    hit = answer_of("yes", cost_pico=0, cache="exact", saved_pico=500)
    result = run.result_of(hit)
    assert await ledger.finish(run, result, answer=hit) == result
    assert await ledger.finish(run, result, answer=hit) == result
    (row,) = sql.events()
    assert (row.cache, row.cost_usd, row.saved_usd) == ("exact", 0, Decimal("0.000000000500"))
    assert (row.input_tokens, row.attempt, row.tenant_id) == (0, None, "acme")


async def test_the_epoch_begins_at_zero_and_a_rebuild_raises_it(ledger):
    assert await ledger.epoch() == 0
    assert (await ledger.rebuild_sums(since=LONG_AGO)).epoch == 1
    assert (await ledger.rebuild_sums(since=LONG_AGO, above=9)).epoch == 10
    assert await ledger.epoch() == 10


async def test_a_rebuild_counts_what_is_settled_and_what_is_held(ledger):
    both = (TODAY, "t:acme:m:2026-11")
    for settlement, windows in ((PAID, both), (FREE, both), (PAID, (TODAY,)), (PAID, ())):
        await ledger.settle(await journalled(ledger, windows=windows), settlement)
    unsure, held = await journalled(ledger), await journalled(ledger)
    await journalled(ledger, windows=())
    await ledger.mark_uncertain([unsure.id])
    void = await journalled(ledger)
    await ledger.settle(void, Settlement("void", 0))
    sums = await ledger.rebuild_sums(since=LONG_AGO)
    assert sums.settled == {TODAY: 120 + 120 + WORST, "t:acme:m:2026-11": 120}
    assert [(hold.id, hold.worst_pico, hold.windows) for hold in sums.holds] == [(held.id, WORST, (TODAY,))]
    assert await ledger.unmirrored() == []


async def test_a_rebuild_leaves_out_what_is_older_than_its_horizon(ledger):
    await ledger.settle(await journalled(ledger), PAID)
    sums = await ledger.rebuild_sums(since=datetime.now(UTC) + timedelta(seconds=5))
    assert sums.settled == {}


async def test_sums_past_64_bits_are_exact(ledger):
    most = 4 * 10**18
    for _ in range(4):
        attempt = await journalled(ledger, worst_pico=most)
        await ledger.settle(attempt, Settlement("settled", most - 1, model="s"))
    sums = await ledger.rebuild_sums(since=LONG_AGO)
    assert sums.settled == {TODAY: 4 * (most - 1)}
    assert (await ledger.books()).cost_pico == 4 * (most - 1)
