"""RecordJob and JournalAttempt on a real ledger: what is written before, after, and when a job is cut off."""

from __future__ import annotations

import asyncio

import pytest

from producer_sdk.contract import ErrorCode, JobError, to_usd
from tests.worker.job_runs import Rest, answer_of
from tests.worker.ledger.writing import FREE, WORST, attempt_with, journalled, opened, run_with
from worker.errors import (
    FailureKind,
    HandBack,
    JobStopped,
    JournalRefused,
    LeaseLost,
    LedgerUnavailable,
    ProviderError,
)
from worker.job_run import Answer, Attempt
from worker.ledger.step import JournalAttempt, RecordJob


class Call:
    """Stands where CallProvider does: connects, and then answers, raises or waits."""

    def __init__(self, outcome: Answer | BaseException | None = None, *, connects: bool = True) -> None:
        self.outcome = outcome
        self.connects = connects
        self.began = asyncio.Event()

    async def __call__(self, attempt: Attempt) -> Answer:
        attempt.sent = self.connects
        self.began.set()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        if self.outcome is None:
            await asyncio.Event().wait()
        assert self.outcome
        return self.outcome


def row_of(sql):
    (row,) = sql.attempts()
    return row.state, row.cost_pico


async def test_an_answered_attempt_is_settled_with_its_jobs_final_row(ledger, sql):
    attempt = attempt_with()
    answer = await JournalAttempt(ledger).run(attempt, Call(answer_of(cost_pico=120)))
    assert row_of(sql) == ("settled", 120)
    assert (attempt.settled_pico, attempt.job_run.spent_pico) == (120, 120)
    assert answer.standing is not None
    assert (answer.standing.text, answer.standing.cost_usd) == ("yes", to_usd(120))
    assert [summary.attempt_id for summary in answer.standing.attempts] == [attempt.id]
    assert (await ledger.look_up(attempt.job_run.job_id)).final == answer.standing


async def test_the_journal_is_committed_before_the_call(ledger, sql):
    class Looks(Call):
        async def __call__(self, attempt: Attempt) -> Answer:
            self.saw = await asyncio.to_thread(row_of, sql)
            return await super().__call__(attempt)

    call = Looks(answer_of())
    await JournalAttempt(ledger).run(attempt_with(), call)
    assert call.saw == ("in_flight", 0)


async def test_a_failed_attempt_is_settled_and_its_job_goes_on(ledger, sql):
    attempt = attempt_with()
    failure = ProviderError(FailureKind.OVERLOADED, "the provider answered 529", billed="no")
    with pytest.raises(ProviderError):
        await JournalAttempt(ledger).run(attempt, Call(failure))
    assert (row_of(sql), attempt.settled_pico) == (("failed", 0), 0)
    assert [summary.error for summary in attempt.job_run.attempts] == ["overloaded"]
    assert (await ledger.look_up(attempt.job_run.job_id)).final is None


async def test_a_call_that_is_cancelled_is_uncertain_at_its_worst_case(ledger, sql):
    attempt, call = attempt_with(), Call()
    running = asyncio.ensure_future(JournalAttempt(ledger).run(attempt, call))
    await call.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (row_of(sql), attempt.settled_pico) == (("uncertain", WORST), WORST)


async def test_a_call_that_is_cancelled_before_its_first_byte_is_void(ledger, sql):
    attempt, call = attempt_with(), Call(connects=False)
    running = asyncio.ensure_future(JournalAttempt(ledger).run(attempt, call))
    await call.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (row_of(sql), attempt.settled_pico) == (("void", 0), 0)


async def test_an_attempt_that_is_cancelled_while_it_is_journalled_leaves_nothing_in_flight(ledger, sql):
    for steps in range(1, 8):
        running = asyncio.ensure_future(JournalAttempt(ledger).run(attempt_with(), Call(connects=False)))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await ledger.epoch()
    assert {row.state for row in sql.attempts()} <= {"void"}


async def test_an_answer_that_is_being_written_is_written_though_the_job_is_cancelled(ledger, sql):
    attempt = attempt_with()
    call = Call(answer_of(cost_pico=120))
    running = asyncio.ensure_future(JournalAttempt(ledger).run(attempt, call))
    await call.began.wait()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (row_of(sql), attempt.settled_pico) == (("settled", 120), 120)
    assert (await ledger.look_up(attempt.job_run.job_id)).final is not None


async def test_a_lease_that_is_lost_before_the_first_byte_costs_nothing(ledger, sql):
    with pytest.raises(LeaseLost):
        await JournalAttempt(ledger).run(attempt_with(), Call(LeaseLost("gone"), connects=False))
    assert (row_of(sql), sql.events()) == (("void", 0), [])


async def test_a_journal_that_refuses_leaves_the_attempt_uncalled(ledger, sql):
    attempt, call = attempt_with(epoch=5), Call(answer_of())
    with pytest.raises(JournalRefused):
        await JournalAttempt(ledger).run(attempt, call)
    assert (sql.attempts(), call.began.is_set(), attempt.settled_pico) == ([], False, None)


async def test_without_the_ledger_nothing_is_called(ledger_url):
    async with opened(ledger_url, timeout_s=0.3) as ledger:  # without tables
        call = Call(answer_of())
        with pytest.raises(LedgerUnavailable):
            await JournalAttempt(ledger).run(attempt_with(), call)
        with pytest.raises(LedgerUnavailable):
            await RecordJob(ledger).run(run_with(), Rest())
    assert not call.began.is_set()


async def test_a_stopped_job_ends_once_with_what_it_has_spent(ledger):
    run = run_with()
    run.spent_pico = 7
    stop = JobStopped.of(ErrorCode.POLICY_DENIED, "not for you")
    first = (await RecordJob(ledger).run(run, Rest(stop))).standing
    assert first is not None
    assert (first.status, first.cost_usd) == ("rejected", to_usd(7))
    again = await RecordJob(ledger).run(run_with(run.job), Rest(answer_of()))
    assert again.standing == first


async def test_a_job_that_a_cache_answers_is_finished_and_counted(ledger, sql):
    run = run_with()
    answer = await RecordJob(ledger).run(run, Rest(answer_of(cost_pico=0, cache="exact", saved_pico=9)))
    assert answer.standing is not None
    assert (answer.standing.cache, answer.standing.saved_usd) == ("exact", to_usd(9))
    assert [row.cache for row in sql.events()] == ["exact"]


async def test_what_interrupts_a_job_ends_it_nowhere(ledger, sql):
    for interruption in (HandBack("later"), LeaseLost("gone"), ProviderError(FailureKind.TIMEOUT, "late")):
        with pytest.raises(type(interruption)):
            await RecordJob(ledger).run(run_with(), Rest(interruption))
    assert sql.jobs() == []


async def test_a_redelivered_job_knows_what_it_has_left_and_spent(ledger):
    run = run_with()
    await journalled(ledger, run)
    lost = await journalled(ledger, run)
    await ledger.mark_uncertain([lost.id])
    await ledger.settle(await journalled(ledger, run), FREE)
    again, rest = run_with(run.job), Rest()
    await RecordJob(ledger).run(again, rest)
    assert (again.unresolved_attempts, again.spent_pico) == (2, WORST)


async def test_a_job_that_may_not_be_tried_again_is_uncertain_when_an_attempt_is(ledger):
    run = run_with()
    await journalled(ledger, run)
    stop = JobStopped(JobError.of(ErrorCode.DEADLINE_EXCEEDED, "its time is over"))
    answer = await RecordJob(ledger).run(run_with(run.job), Rest(stop))
    assert answer.standing is not None
    assert answer.standing.error is not None
    assert (answer.standing.error.code, answer.standing.error.reason) == ("uncertain", "deadline_exceeded")
