"""What SQL tells of one job, and how its story gets there, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from producer_sdk.contract import ErrorCode, JobError, uuid7
from tests.worker.ledger.writing import FREE, PAID, TODAY, WORST, final_of, journalled, run_with
from worker.story import read


def whats(story: str | None) -> list[str]:
    return [event.what for event in read(story).told]


async def test_each_journalled_attempt_brings_the_story_so_far(ledger):
    run = run_with()
    run.story.note("plan", "made")
    first = await journalled(ledger, run)
    account = await ledger.account(run.job_id)
    assert (account.tenant, account.task, account.status) == ("acme", "ask", None)
    assert whats(account.story) == ["made"]
    await ledger.settle(first, FREE)
    run.story.note("fallback", "next")
    second = await journalled(ledger, run, number=2)
    assert whats((await ledger.account(run.job_id)).story) == ["made", "next"]
    assert whats((await ledger.look_up(run.job_id)).story) == ["made", "next"]
    attempts = (await ledger.account(run.job_id)).attempts
    assert [(one.id, one.state, one.number, one.cost_pico) for one in attempts] == [
        (first.id, "failed", 1, 0),
        (second.id, "in_flight", 2, 0),
    ]
    assert (attempts[1].worst_pico, attempts[1].windows, attempts[1].deployment) == (
        WORST,
        (TODAY,),
        "local/s",
    )


async def test_the_final_row_has_the_story_with_its_result(ledger):
    run = run_with()
    attempt = await journalled(ledger, run)
    run.story.note("attempt", "settled", attempt=1)
    await ledger.settle(attempt, PAID, final=final_of(run))
    account = await ledger.account(run.job_id)
    assert account.status == "succeeded"
    assert whats(account.story) == ["settled", "succeeded"]
    assert (await ledger.look_up(run.job_id)).story is None


async def test_the_story_of_who_comes_second_changes_nothing(ledger):
    run, late = run_with(), run_with()
    late.job = run.job
    attempt = await journalled(ledger, run)
    await ledger.settle(attempt, PAID, final=final_of(run))
    before = await ledger.account(run.job_id)
    late.story.note("plan", "made")
    other = await journalled(ledger, late)
    await ledger.settle(other, PAID, final=final_of(late, "another"))
    assert (await ledger.account(run.job_id)).story == before.story


async def test_a_job_without_an_attempt_has_a_story_too_and_keeps_it_when_its_content_is_forgotten(ledger):
    run = run_with()
    run.story.note("policy", "refused")
    denied = JobError.of(ErrorCode.POLICY_DENIED, "no model is left")
    await ledger.finish(run, run.ended(denied))
    await ledger.purge_content(finished_before=datetime.now(UTC) + timedelta(days=1))
    account = await ledger.account(run.job_id)
    assert whats(account.story) == ["refused", "rejected"]
    assert account.error == denied
    assert account.purged_at is not None
    assert "no model is left" not in json.dumps(account.story)


async def test_nothing_is_told_of_a_job_that_never_began(ledger):
    assert await ledger.account(uuid7()) is None
