"""The demo's table and the comparison of both books."""

from decimal import Decimal
from uuid import UUID

from producer_sdk.contract import ErrorCode, Job, JobError, JobResult, Message, Usage
from worker.embedded.demo.report import percentile, tenant_reports
from worker.embedded.demo.twin_books import Comparison, Line

FIRST, SECOND = UUID(int=1), UUID(int=2)


def job(tenant: str) -> Job:
    return Job(tenant=tenant, task="classify_intent", messages=[Message(role="user", content="hello")])


def test_each_tenant_has_its_own_line() -> None:
    jobs = [job("acme"), job("acme"), job("initech")]
    answered = Usage(input_tokens=10, output_tokens=2, cache_read_tokens=4)
    results = {
        jobs[0].job_id: JobResult(
            job_id=jobs[0].job_id, status="succeeded", usage=answered, cost_usd=Decimal("0.25"), latency_ms=40
        ),
        jobs[1].job_id: JobResult(
            job_id=jobs[1].job_id, status="succeeded", cache="exact", saved_usd=Decimal("0.25"), latency_ms=2
        ),
        jobs[2].job_id: JobResult.ended(
            jobs[2].job_id, JobError.of(ErrorCode.BUDGET_EXCEEDED, "come back tomorrow")
        ),
    }
    acme, initech = tenant_reports(jobs, results)
    assert (acme.jobs, acme.outcomes, acme.exact_hits) == (2, {"succeeded": 2}, 1)
    assert (acme.input_tokens, acme.output_tokens, acme.cache_read_tokens) == (10, 2, 4)
    assert (acme.cost_usd, acme.saved_usd, acme.p50_ms, acme.p95_ms) == (
        Decimal("0.25"),
        Decimal("0.25"),
        2,
        40,
    )
    assert (initech.outcomes, initech.refusals) == ({"rejected": 1}, {"budget_exceeded": 1})
    assert initech.p50_ms is None


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile(range(1, 101), 50) == 50
    assert percentile(range(1, 101), 95) == 95
    assert percentile([7], 95) == 7


def test_books_are_equal_only_when_every_attempt_costs_the_same_in_both() -> None:
    one, other = {FIRST: Line(10, 5), SECOND: Line(3, 1)}, {SECOND: Line(3, 1), FIRST: Line(10, 5)}
    assert Comparison(one, other).equal
    assert Comparison(one, {FIRST: Line(10, 5)}).differing == [SECOND]
    swapped = {FIRST: Line(3, 1), SECOND: Line(10, 5)}
    assert Comparison(one, swapped).differing == [FIRST, SECOND]
    assert Comparison(one, swapped).ledger_pico == Comparison(one, swapped).provider_pico
