"""What the ledger tells of a run whose counts Redis has lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from producer_sdk.contract import ErrorCode, Job, JobError
from tests.worker.job_runs import fresh_run, job_of
from tests.worker.ledger.writing import PAID, final_of, journalled, run_with
from worker.ledger import run_history
from worker.ledger.ledger import Ledger
from worker.ledger.run_history import RunHistory

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def answered(ledger: Ledger, job: Job, message: bytes = b"a message") -> None:
    run = fresh_run(job, message=message)
    await ledger.settle(await journalled(ledger, run), PAID, final=final_of(run))


async def refused(ledger: Ledger, job: Job) -> None:
    run = run_with(job)
    await ledger.finish(run, run.ended(JobError.of(ErrorCode.RUN_CAP, "enough", reason="calls")))


async def history(ledger: Ledger, run_id: str, *, since: datetime = LONG_AGO) -> RunHistory:
    return await ledger.run_history("acme", run_id, since=since, with_messages=True)


async def test_what_has_begun_in_a_run_and_below_it_counts_and_what_was_refused_does_not(ledger: Ledger):
    for child, parent in (("b", "a"), ("c", "b"), ("a", "c")):  # a circle
        await ledger.ancestors("acme", child, parent)
    began = datetime.now(UTC) - timedelta(seconds=1)
    await answered(ledger, job_of(run_id="a"), b"first")
    await answered(ledger, job_of(run_id="c"), b"second")
    await answered(ledger, job_of(run_id="other"))
    await answered(ledger, job_of(run_id="a", tenant="globex"))
    open_run = run_with(job_of(run_id="b"))
    await journalled(ledger, open_run)
    for _ in range(3):
        await refused(ledger, job_of(run_id="a"))
    found = await history(ledger, "a")
    assert (found.calls, found.under_way) == (3, (str(open_run.job_id),))
    assert found.began is not None
    assert began <= found.began <= datetime.now(UTC)
    assert found.messages == (b"first", b"second", open_run.message)
    assert (await history(ledger, "other")).calls == 1


async def test_a_run_that_is_over_begins_anew(ledger: Ledger):
    await answered(ledger, job_of(run_id="a"))
    assert await history(ledger, "a", since=datetime.now(UTC) + timedelta(seconds=1)) == RunHistory()
    assert await history(ledger, "never seen") == RunHistory()


async def test_a_message_too_long_to_compare_is_left_out(ledger: Ledger):
    await answered(ledger, job_of(run_id="a"), b"x" * (run_history.MOST_MESSAGE_BYTES + 1))
    assert (await history(ledger, "a")).messages == ()
