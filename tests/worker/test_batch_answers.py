"""The control jobs about batches, and what they leave when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis.asyncio

from producer_sdk.contract import Job, uuid7
from producer_sdk.contract.control import (
    RELEASE,
    RESERVE,
    USAGE,
    ReleaseBatches,
    ReserveBatch,
    UsageQuestion,
    UsageReport,
)
from producer_sdk.contract.envelope import BadMessage, check_job
from tests.worker.money_desk import Desk, attempt_of, no_runs, open_desk
from worker.budget.batches import HoldBatches
from worker.budget.rules import windows
from worker.control import AnswerControl
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun
from worker.ledger.ledger import Ledger
from worker.ledger.queries import Span
from worker.ledger.report import ReportUsage


@pytest.fixture
async def desk(client: redis.asyncio.Redis, namespace: str, ledger_url: str) -> AsyncIterator[Desk]:
    """Empty books at SQL's epoch, on SQLite and on PostgreSQL."""
    Ledger(ledger_url).migrate()
    new = open_desk(client, namespace, ledger_url)
    await new.books.rebuild()
    yield new
    await new.close()


async def held(desk: Desk) -> int:
    """What acme's day holds."""
    (window,) = windows(attempt_of(1).job_run.known_tenant(), datetime.now(UTC))
    return (await desk.store.window(window.name))[1]


class Prices:
    """Ten pico-dollars a line, after some seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    async def __call__(self, _line: JobRun) -> int:
        await asyncio.sleep(self.seconds)
        return 10


class CutAfterwards:
    """The ledger of a job that is cut off just after its batch was opened."""

    def __init__(self, ledger: Ledger) -> None:
        self.open_batch_really = ledger.open_batch
        self.confirm_batches, self.give_up_batches = ledger.confirm_batches, ledger.give_up_batches

    async def open_batch(self, *words: Any, **fields: Any) -> Any:
        await self.open_batch_really(*words, **fields)
        raise asyncio.CancelledError


def control(desk: Desk, highest: Prices | None = None, rows: Any = None) -> AnswerControl:
    batches = HoldBatches(
        store=desk.store,
        rows=rows or desk.ledger,
        rebuild=desk.books.rebuild,
        highest=highest or Prices(),
        runs=no_runs,
    )
    return AnswerControl(
        {
            RESERVE: (ReserveBatch, batches.reserve),
            RELEASE: (ReleaseBatches, batches.release),
            USAGE: (UsageQuestion, ReportUsage(desk.ledger).answer),
        }
    )


def asking(text: str, *, task: str = RESERVE, deadline_s: float | None = None) -> JobRun:
    """A control job of acme on its way."""
    run = attempt_of(1).job_run
    deadline = datetime.now(UTC) + timedelta(seconds=deadline_s) if deadline_s else None
    run.job = Job(tenant="acme", task=task, messages=text, deadline=deadline)
    run.routing = replace(run.routing, tenants={"acme": run.known_tenant()})
    return run


def lines(number: int, *, for_s: int = 600) -> str:
    job = attempt_of(1).job_run.job
    of_batch = [job.model_copy(update={"job_id": uuid7()}) for _ in range(number)]
    return ReserveBatch(lines=of_batch, for_s=for_s).model_dump_json(exclude_defaults=True)


async def no_more(_run: JobRun) -> Answer:
    raise AssertionError("a control job goes no further")


async def test_a_batch_whose_pricing_outlasts_its_deadline_holds_nothing(desk: Desk):
    with pytest.raises(JobStopped, match="nobody waits"):
        await control(desk, Prices(0.2)).run(asking(lines(3), deadline_s=0.3), no_more)
    assert await held(desk) == 0


async def test_a_job_that_is_cut_off_after_its_batch_was_opened_holds_it_for_its_first_minutes_alone(
    desk: Desk,
):
    with pytest.raises(asyncio.CancelledError):
        await control(desk, rows=CutAfterwards(desk.ledger)).run(asking(lines(3, for_s=1)), no_more)
    assert await held(desk) == 30
    await asyncio.sleep(1.1)
    await desk.reaper.reap()
    assert await held(desk) == 0


async def test_a_question_that_came_as_inputs_is_told_so(desk: Desk):
    run = asking(lines(1))
    run.job = Job(tenant="acme", task=RESERVE, inputs=[lines(1)])
    with pytest.raises(JobStopped, match="invalid_job: question: "):
        await control(desk).run(run, no_more)
    assert await held(desk) == 0


async def test_a_batch_that_was_asked_for_again_is_held_once(desk: Desk):
    run = asking(lines(3))
    first = await control(desk).run(run, no_more)
    again = await control(desk).run(run, no_more)
    assert first.data == again.data
    assert await held(desk) == 30


async def test_a_batch_released_before_it_is_reserved_is_never_held(desk: Desk):
    run = asking(lines(3))
    asked = ReleaseBatches(batches=[run.job_id]).model_dump_json()
    await control(desk).run(asking(asked, task=RELEASE), no_more)
    with pytest.raises(JobStopped, match="submit it again"):
        await control(desk).run(run, no_more)
    assert await held(desk) == 0


GARBAGE = {
    "no JSON": "{",
    "many unknown fields": '{"by":[],' + ",".join(f'"k{n}":0' for n in range(150_000)) + "}",
    "too many fields": '{"by":[],' + ",".join(f'"k{n}":0' for n in range(210_000)) + "}",
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_refused_in_a_sentence_and_soon(desk: Desk, text: str):
    began = time.process_time()
    with pytest.raises(JobStopped) as stopped:
        await control(desk).run(asking(text, task=USAGE), no_more)
    assert stopped.value.error.code == "invalid_job"
    assert len(stopped.value.error.message) < 300
    assert time.process_time() - began < 5  # it was twenty times that, mostly for a sentence


def test_a_jobs_many_mistakes_are_counted_and_not_told_one_by_one():
    wrong = {f"k{number}": number for number in range(5000)}
    with pytest.raises(BadMessage, match=r"^job: 5000 fields are wrong"):
        check_job({"tenant": "acme", "task": "ask", "messages": "hi", "metadata": wrong})


async def test_a_report_has_its_dearest_lines_and_the_sum_of_all(desk: Desk):
    for pico in (7, 30, 12):
        await desk.whole(40, pico)
    report = await control(desk).run(asking('{"by": ["run", "day"]}', task=USAGE), no_more)
    assert isinstance(report.data, dict)
    total = UsageReport.model_validate(report.data).total
    assert total.cost_usd == Decimal("0.000000000049")
    assert report.data["since"].endswith("-01")
    [dearest] = await desk.ledger.report(["model"], span=Span("acme"), limit=1)
    assert (dearest.attempts, dearest.cost_pico) == (3, 49)
