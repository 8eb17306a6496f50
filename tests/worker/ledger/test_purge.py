"""What is forgotten when a job's retention is over, and what never is."""

from __future__ import annotations

import asyncio
from array import array
from datetime import UTC, datetime, timedelta

from producer_sdk.contract import Vectors
from tests.worker.job_runs import Rest
from tests.worker.ledger.writing import PAID, final_of, journalled, run_with
from worker.ledger.step import RecordJob


async def test_requests_and_answers_are_forgotten_and_the_rest_stays(ledger, sql):
    run = run_with()
    await ledger.settle(await journalled(ledger, run), PAID, final=final_of(run, "a secret"))
    assert await ledger.purge_content(finished_before=_soon()) == 1
    assert await ledger.purge_content(finished_before=_soon()) == 0
    (job,) = sql.jobs()
    assert job.message is None
    assert "secret" not in job.result
    assert job.purged_at is not None
    assert len(sql.events()) == 1


async def test_vectors_are_forgotten_too(ledger, sql):
    run, vectors = run_with(), Vectors.packed([array("f", [0.5, 1])], dimensions=2)
    final = final_of(run, "").model_copy(update={"vectors": vectors})
    await ledger.settle(await journalled(ledger, run), PAID, final=final)
    assert vectors.data in sql.jobs()[0].result
    await ledger.purge_content(finished_before=_soon())
    assert vectors.data not in sql.jobs()[0].result


async def test_a_job_that_is_forgotten_is_still_not_called_again(ledger):
    run = run_with()
    final = final_of(run, "a secret")
    await ledger.settle(await journalled(ledger, run), PAID, final=final)
    await ledger.purge_content(finished_before=_soon())
    rest = Rest()
    answer = await RecordJob(ledger).run(run_with(run.job), rest)
    assert rest.saw == []
    (finding,) = answer.standing.safety
    assert (finding.rule, finding.action) == ("retention", "redacted")
    assert answer.standing == final.model_copy(update={"text": "", "safety": [finding]})


async def test_what_has_ended_since_or_has_not_ended_is_kept(ledger, sql):
    run = run_with()
    await ledger.settle(await journalled(ledger, run), PAID, final=final_of(run, "a secret"))
    await journalled(ledger)
    assert await ledger.purge_content(finished_before=datetime.now(UTC) - timedelta(hours=1)) == 0
    assert [job.message for job in sql.jobs()] == [b"the message as it came"] * 2


async def test_many_jobs_are_forgotten_in_pages(ledger, sql):
    runs = [run_with() for _ in range(601)]
    await asyncio.gather(*(ledger.finish(run, final_of(run, "a secret")) for run in runs))
    assert await ledger.purge_content(finished_before=_soon()) == 601
    assert not any("secret" in job.result for job in sql.jobs())


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)
