"""Batches that reserve: what a producer is told, and what it gives back, when the broker or a worker goes away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from producer_sdk import AsyncFleet, Fleet, FleetSettings, Job, JobRejected, ResultTimeout, SubmitInterrupted
from producer_sdk.batch import Prepared, Receipt
from producer_sdk.contract.control import ConfirmBatches, ReleaseBatches
from producer_sdk.contract.envelope import read_job, unpack
from producer_sdk.errors import BrokerUnavailable
from producer_sdk.link import Link
from producer_sdk.reservation import submit_reserved
from tests.producer_sdk.fake_worker import FakeWorker


@dataclass
class Away:
    """A link whose broker goes away at one moment, in front of a real one."""

    link: Link
    before_answer: bool = False  # while the reservation is waited for
    after_chunks: int | None = None  # after so many chunks of lines
    told: list[Job] = field(default_factory=list)
    chunks: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link, name)

    async def put(self, prepared: Sequence[Prepared], **options: Any) -> list[Receipt]:
        jobs = [read_job(unpack(one.entry.message)) for one in prepared if one.entry]
        control = [job for job in jobs if job.task.startswith("fairlane.")]
        self.told += control
        if not control and self.after_chunks is not None:
            if self.chunks == self.after_chunks:
                raise BrokerUnavailable("the broker is away")
            self.chunks += 1
        return await self.link.put(prepared, **options)

    async def wait(self, receipt: Receipt, **options: Any) -> Any:
        if self.before_answer:
            self.before_answer = False
            raise BrokerUnavailable("the broker is away")
        return await self.link.wait(receipt, **options)


def jobs(number: int, text: str = "hi") -> list[dict[str, object]]:
    return [{"task": "ask", "tenant": "acme", "messages": f"{text} {n}"} for n in range(number)]


@pytest.fixture
async def link(fleet_settings: FleetSettings) -> Any:
    new = Link(fleet_settings)
    yield new
    await new.close()


async def submitted(link: Any, lines: list[dict[str, object]]) -> Any:
    return await submit_reserved(link, lines, wait_s=0.0, for_s=3600)


@pytest.mark.usefixtures("worker")
async def test_when_the_lines_are_put_they_are_counted_and_the_batch_is_held_for_long(link: Link) -> None:
    away = Away(link)
    await submitted(away, [*jobs(3), {"task": "ask", "tenant": "acme"}])
    reserve, confirm = away.told
    assert '"for_s":600' in reserve.messages[0].text
    asked = ConfirmBatches.model_validate_json(confirm.messages[0].text)
    assert (asked.batches, asked.for_s) == ({reserve.job_id: 3}, 3600)


@pytest.mark.usefixtures("worker")
async def test_a_batch_whose_answer_never_came_is_given_up(link: Link) -> None:
    away = Away(link, before_answer=True)
    with pytest.raises(BrokerUnavailable):
        await submitted(away, jobs(3))
    reserve, release = away.told
    assert ReleaseBatches.model_validate_json(release.messages[0].text).batches == [reserve.job_id]


@pytest.mark.usefixtures("worker")
async def test_a_broker_that_goes_away_in_the_middle_leaves_the_handles_of_what_was_put(link: Link) -> None:
    away = Away(link, after_chunks=1)
    with pytest.raises(SubmitInterrupted) as interrupted:
        await submitted(away, jobs(450))
    assert len(interrupted.value.handles) == 200
    confirm = ConfirmBatches.model_validate_json(away.told[-1].messages[0].text)
    assert list(confirm.batches.values()) == [200]


async def test_without_a_worker_nothing_is_put_and_the_question_is_taken_back(link: Link) -> None:
    away = Away(link)
    with pytest.raises(ResultTimeout):
        await submit_reserved(away, jobs(2), wait_s=0.0, for_s=3600, timeout_s=0.2)  # type: ignore[arg-type]
    assert [job.task for job in away.told] == ["fairlane.reserve", "fairlane.release"]
    assert (await link.lanes.counts()).pending == 1


@pytest.mark.usefixtures("worker")
async def test_lines_of_any_script_go_into_as_many_questions_as_they_need(link: Link) -> None:
    away = Away(link)
    reserved = await submitted(away, jobs(300, "日本語" * 4000))
    assert {receipt.outcome for receipt in reserved.receipts} == {"accepted"}
    assert [job.task for job in away.told].count("fairlane.reserve") == 4


@pytest.mark.usefixtures("worker")
async def test_a_line_too_large_for_a_question_is_refused_alone(link: Link) -> None:
    reserved = await submitted(link, [*jobs(1), *jobs(1, 'say "yes"\n' * 450_000)])
    assert [receipt.outcome for receipt in reserved.receipts] == ["accepted", "refused"]


def test_wrong_arguments_are_refused_in_a_sentence(fleet_settings: FleetSettings, worker: FakeWorker) -> None:
    with Fleet(fleet_settings) as fleet:
        for call, sentence in (
            (lambda: fleet.submit_many(jobs(1), reserve="batch", reserve_for_s=0), "reserve_for_s"),
            (lambda: fleet.usage(tenant="no such!"), r"job\.tenant"),
            (lambda: fleet.usage(tenant="acme", by=["modle"]), r"usage\.by\[0\]"),  # type: ignore[list-item]
        ):
            with pytest.raises(JobRejected, match=sentence):
                call()
        with pytest.raises(ValueError, match="reserve: write 'batch'"):
            fleet.submit_many(jobs(1), reserve="all")  # type: ignore[arg-type]
    assert worker.done == []


@pytest.mark.usefixtures("worker")
async def test_handles_of_an_interrupted_batch_are_the_fleets(fleet_settings: FleetSettings) -> None:
    async with AsyncFleet(fleet_settings) as fleet:
        fleet._link = Away(fleet._link, after_chunks=1)  # type: ignore[assignment]
        with pytest.raises(SubmitInterrupted) as interrupted:
            await fleet.submit_many(jobs(250), reserve="batch")
        assert (await interrupted.value.handles[0].result(20)).text == "echo: hi 0"
