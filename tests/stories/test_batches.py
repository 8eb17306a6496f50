"""A whole batch is paid for before its first line is put, over an embedded fleet; and what its tenant has used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from producer_sdk import AsyncFleet, Fleet, Job, JobRejected
from producer_sdk.contract import to_pico
from tests.servers import wait_until
from worker.budget.rules import windows
from worker.cli.opened import open_store
from worker.embedded.fleet import EmbeddedFleet
from worker.routing_load import load


def jobs(tenant: str, number: int) -> list[dict[str, object]]:
    asked = f"{tenant} {time.time_ns()}"
    return [
        {"task": "classify_intent", "tenant": tenant, "messages": f"Where is parcel {n}? ({asked})"}
        for n in range(number)
    ]


@pytest.fixture
def held(embedded: EmbeddedFleet) -> Callable[[str], tuple[int, int]]:
    """Settled and held pico-dollars of a tenant's day."""

    def ask(tenant: str) -> tuple[int, int]:
        async def read() -> tuple[int, int]:
            known = load(embedded.settings.routing_path).tenant(tenant)
            assert known
            (day,) = windows(known, datetime.now(UTC))
            async with open_store(embedded.settings) as store:
                return await store.window(day.name)

        return asyncio.run(read())

    return ask


def until_nothing_is_held(held: Callable[[str], tuple[int, int]], tenant: str) -> int:
    """What is settled, once nothing is held any more: the reaper looks every half lease."""
    wait_until(lambda: not held(tenant)[1], what=f"nothing held of {tenant}")
    return held(tenant)[0]


def test_a_batch_holds_its_sum_and_gives_back_what_its_lines_did_not_need(
    fleet: Fleet, held: Callable[[str], tuple[int, int]]
):
    before = until_nothing_is_held(held, "acme")
    batch = fleet.submit_many(
        [*jobs("acme", 5), {"task": "classify_intent", "tenant": "acme"}], reserve="batch"
    )
    assert [handle.outcome for handle in batch] == ["accepted"] * 5 + ["refused"]
    results = [handle.result(timeout=30) for handle in batch[:5]]
    spent = sum((result.cost_usd for result in results), Decimal(0))
    assert batch.reserved_usd > spent > 0
    assert until_nothing_is_held(held, "acme") - before == to_pico(spent)


def test_a_batch_that_does_not_fit_is_refused_whole_and_says_what_is_missing(
    fleet: Fleet, held: Callable[[str], tuple[int, int]]
):
    before = held("initech")
    with pytest.raises(JobRejected) as refused:
        fleet.submit_many(jobs("initech", 1500), reserve="batch")  # more than one question holds
    error = refused.value.error
    assert error
    assert error.code == "budget_exceeded"
    assert error.reason == "never_fits"
    assert "are missing of the $0.001 that initech may spend" in error.message
    assert held("initech") == before
    [line] = fleet.submit_many(jobs("initech", 1))
    assert line.result(timeout=30).status == "succeeded"


def test_where_one_tenants_part_does_not_fit_no_other_part_stays_held(
    fleet: Fleet, held: Callable[[str], tuple[int, int]]
):
    until_nothing_is_held(held, "acme")
    with pytest.raises(JobRejected):
        fleet.submit_many(jobs("acme", 2) + jobs("initech", 900), reserve="batch")
    assert held("acme")[1] == 0


def test_cancelling_a_batch_gives_the_rest_back(fleet: Fleet, held: Callable[[str], tuple[int, int]]):
    later = datetime.now(UTC) + timedelta(hours=1)
    batch = fleet.submit_many([job | {"not_before": later} for job in jobs("globex", 3)], reserve="batch")
    assert held("globex")[1] >= to_pico(batch.reserved_usd) > 0
    assert batch.cancel() == 3
    assert held("globex")[1] == 0
    assert {handle.wait(timeout=20).status for handle in batch} == {"cancelled"}


def test_a_batch_put_again_by_its_keys_holds_nothing_more(
    fleet: Fleet, held: Callable[[str], tuple[int, int]]
):
    later = datetime.now(UTC) + timedelta(hours=1)
    keyed = [
        job | {"idempotency_key": f"line {n} {time.time_ns()}", "not_before": later}
        for n, job in enumerate(jobs("globex", 3))
    ]
    first = fleet.submit_many(keyed, reserve="batch")
    held_once = held("globex")[1]
    again = fleet.submit_many(keyed, reserve="batch")
    assert [handle.outcome for handle in again] == ["duplicate"] * 3
    assert held("globex")[1] == held_once
    first.cancel()
    assert held("globex")[1] == 0


async def test_an_async_batch_of_several_tenants(embedded: EmbeddedFleet):
    async with AsyncFleet(embedded.settings.fleet) as fleet:
        lines = [Job.model_validate(job) for job in jobs("acme", 2) + jobs("globex", 2)]
        batch = await fleet.submit_many(lines, reserve="batch")
        assert batch.reserved_usd > 0
        assert [(await handle.result(timeout=30)).job_id for handle in batch] == [j.job_id for j in lines]
        report = await fleet.usage(tenant="globex", by=["task", "day"], since=datetime.now(UTC).date())
        assert report.total.attempts >= 2
        [line] = [line for line in report.lines if line.group["task"] == "classify_intent"]
        assert line.group["day"] == datetime.now(UTC).date().isoformat()
        assert sum((line.cost_usd for line in report.lines), Decimal(0)) == report.total.cost_usd > 0


def test_a_report_of_an_unknown_tenant_is_refused(fleet: Fleet):
    with pytest.raises(JobRejected) as refused:
        fleet.usage(tenant="nobody")
    assert refused.value.error
    assert refused.value.error.code == "unknown_tenant"
