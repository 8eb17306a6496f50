"""Batches that reserve their sum before their first line, and what else is asked of the fleet itself."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from producer_sdk.batch import Prepared, Receipt
from producer_sdk.contract import ErrorCode, Job, JobError, JobResult, Message, uuid7
from producer_sdk.contract.control import (
    CONFIRM,
    LONGEST_RESERVE_S,
    MOST_LINES,
    MOST_PIECES,
    RELEASE,
    RESERVE,
    USAGE,
    BatchReserved,
    ConfirmBatches,
    ReleaseBatches,
    ReserveBatch,
    UsageQuestion,
    UsageReport,
    pieces,
)
from producer_sdk.contract.sentences import explain
from producer_sdk.errors import (
    BrokerUnavailable,
    FleetError,
    JobRejected,
    SubmitInterrupted,
    raise_unless_answered,
)
from producer_sdk.link import Link

ANSWER_S = 60.0
RESERVE_FOR_S = 86_400
UNCONFIRMED_S = 600  # beside the time for which full queues are waited for
MOST_QUESTION_BYTES = 3 * 1024 * 1024
MOST_LINE_BYTES = 7 * 1024 * 1024  # quoted, so that a question with this one line is a message still
MOST_AT_ONCE = 100
MANY = 200
M = TypeVar("M", bound=BaseModel)
Held = tuple[str, BatchReserved]


@dataclass(frozen=True)
class Reserved:
    """The receipts of a batch's lines, in order, and what was held for them: tenant and batch."""

    receipts: list[Receipt]
    batches: tuple[Held, ...]

    @property
    def usd(self) -> Decimal:
        """The sum of what was held."""
        return sum((batch.reserved_usd for _tenant, batch in self.batches), Decimal(0))


def check_reserve(reserve: str | None) -> bool:
    """Whether a batch is to be reserved whole. Raises ValueError for anything but "batch"."""
    if reserve not in (None, "batch"):
        raise ValueError("reserve: write 'batch', or leave it out")
    return reserve is not None


async def submit_reserved(
    link: Link,
    jobs: Iterable[Job | Mapping[str, Any]],
    *,
    wait_s: float,
    for_s: int,
    timeout_s: float = ANSWER_S,
) -> Reserved:
    """Hold the sum of all jobs, then put them; where it cannot be held, none is put.

    Raises JobRejected (budget_exceeded, invalid_job), ResultTimeout, BrokerUnavailable, and SubmitInterrupted, whose
    `handles` are receipts. What is wrong with one job is its own receipt's error. It is held for minutes first, so that
    what a producer that dies meanwhile has held is soon free again, and for `for_s` once the lines are put.
    """
    if not 0 < for_s <= LONGEST_RESERVE_S:
        raise _refused(f"reserve_for_s should be from 1 to {LONGEST_RESERVE_S} seconds (30 days)")
    checked = await _checked(link, jobs)
    held: list[Held] = []
    batch_of: dict[uuid.UUID, uuid.UUID] = {}
    receipts: list[Receipt] = []
    first_s = min(UNCONFIRMED_S + int(wait_s), LONGEST_RESERVE_S)
    try:
        for part in await _parts(checked):
            batch = await _reserve(link, part, for_s=first_s, timeout_s=timeout_s)
            held.append((part[0].tenant, batch))
            batch_of |= {job.job_id: batch.batch_id for job in part}
    except BaseException:
        await asyncio.shield(_quietly(release(link, held)))
        raise
    try:
        jobs_or_errors = [one for one, _size in checked]
        for chunk in link.packer.chunks(jobs_or_errors, batch_of=lambda job: batch_of.get(job.job_id)):
            receipts += await link.put(chunk, wait_s=wait_s)
    except BrokerUnavailable as error:
        raise SubmitInterrupted(str(error), receipts) from error
    finally:
        # What was put goes on, whatever happened to the rest.
        await asyncio.shield(_quietly(_confirm(link, held, receipts, batch_of, for_s=for_s)))
    return Reserved(receipts, tuple(held))


async def _checked(link: Link, jobs: Iterable[Job | Mapping[str, Any]]) -> list[tuple[Job | Prepared, int]]:
    """Each job, or what is wrong with it, and its bytes inside a question."""
    found: list[tuple[Job | Prepared, int]] = []
    for number, job in enumerate(jobs):
        one = link.packer.check(job)
        size = 0
        if isinstance(one, Job):
            size = len(pydantic_core.to_json(one.model_dump_json(exclude_defaults=True)))
            if size > MOST_LINE_BYTES or pieces(one) > MOST_PIECES:
                one = _too_large(one)
        found.append((one, size))
        if number % MANY == 0:
            await asyncio.sleep(0)
    return found


def _too_large(job: Job) -> Prepared:
    sentence = "the job is too large to be a line of a batch that reserves: submit it alone"
    return Prepared(job.job_id, error=JobError.of(ErrorCode.INVALID_JOB, sentence))


async def _parts(checked: Sequence[tuple[Job | Prepared, int]]) -> list[list[Job]]:
    """Each of one tenant, and no larger than one question may be."""
    parts: dict[str, list[_Part]] = {}
    for number, (job, size) in enumerate(checked):
        if isinstance(job, Prepared):
            continue
        of_tenant = parts.setdefault(job.tenant, [])
        if not of_tenant or not of_tenant[-1].takes(job, size):
            of_tenant.append(_Part([]))
        of_tenant[-1].add(job, size)
        if number % MANY == 0:
            await asyncio.sleep(0)
    return [part.lines for of_tenant in parts.values() for part in of_tenant]


@dataclass
class _Part:
    """The lines of one question."""

    lines: list[Job]
    size: int = 0
    pieces: int = 0

    def takes(self, job: Job, size: int) -> bool:
        """Whether there is room for one more."""
        return (
            len(self.lines) < MOST_LINES
            and self.size + size <= MOST_QUESTION_BYTES
            and self.pieces + pieces(job) <= MOST_PIECES
        )

    def add(self, job: Job, size: int) -> None:
        """One more."""
        self.lines.append(job)
        self.size += size
        self.pieces += pieces(job)


async def _reserve(link: Link, lines: list[Job], *, for_s: int, timeout_s: float) -> BatchReserved:
    job = _control(RESERVE, lines[0].tenant, ReserveBatch(lines=lines, for_s=for_s), timeout_s=timeout_s)
    try:
        return await _answered(link, job, BatchReserved, timeout_s=timeout_s)
    except JobRejected:
        raise
    except BaseException:
        # It may be held all the same, or soon: it is given back as soon as somebody answers.
        await asyncio.shield(_quietly(_give_up(link, job)))
        raise


async def _give_up(link: Link, job: Job) -> None:
    with suppress(FleetError):
        await link.cancel(job.job_id)
    await _tell(link, _control(RELEASE, job.tenant, ReleaseBatches(batches=[job.job_id])))


async def _confirm(
    link: Link,
    held: Sequence[Held],
    receipts: Sequence[Receipt],
    batch_of: Mapping[uuid.UUID, uuid.UUID],
    *,
    for_s: int,
) -> None:
    """Say how many lines are to come, and for how long; nobody waits for the answer."""
    accepted: dict[str, dict[uuid.UUID, int]] = {}
    lines = dict.fromkeys((batch.batch_id for _tenant, batch in held), 0)
    for receipt in receipts:
        if receipt.outcome == "accepted" and receipt.job_id in batch_of:
            lines[batch_of[receipt.job_id]] += 1
    for tenant, batch in held:
        if batch.reserved_usd:
            accepted.setdefault(tenant, {})[batch.batch_id] = lines[batch.batch_id]
    for tenant, batches in accepted.items():
        await _tell(link, _control(CONFIRM, tenant, ConfirmBatches(batches=batches, for_s=for_s)))


async def release(link: Link, held: Sequence[Held], *, timeout_s: float = ANSWER_S) -> None:
    """Give back what is left of these."""
    by_tenant: dict[str, list[uuid.UUID]] = {}
    for tenant, batch in held:
        if batch.reserved_usd:
            by_tenant.setdefault(tenant, []).append(batch.batch_id)
    for tenant, batches in by_tenant.items():
        job = _control(RELEASE, tenant, ReleaseBatches(batches=batches))
        await _answered(link, job, ReleaseBatches, timeout_s=timeout_s)


async def cancel_all(link: Link, receipts: Sequence[Receipt]) -> int:
    """Cancel every job that has not ended; how many had not."""
    alive = [receipt.job_id for receipt in receipts if receipt.outcome == "accepted"]
    cancelled = 0
    for at in range(0, len(alive), MOST_AT_ONCE):
        asked = (link.cancel(job_id) for job_id in alive[at : at + MOST_AT_ONCE])
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, FleetError):
                raise answer
            cancelled += answer in ("pending", "running")
    return cancelled


async def usage_report(
    link: Link,
    *,
    tenant: str,
    by: Sequence[str],
    since: date | None,
    before: date | None,
    timeout_s: float,
) -> UsageReport:
    """A tenant's usage as the fleet's ledger has it. Raises JobRejected (unknown_tenant), ResultTimeout."""
    try:
        question = UsageQuestion.model_validate({"by": list(by), "since": since, "before": before})
        job = _control(USAGE, tenant, question, timeout_s=timeout_s)
    except ValidationError as error:
        what = ("job", Job) if error.title == "Job" else ("usage", UsageQuestion)
        raise _refused(explain(error, *what)) from error
    return await _answered(link, job, UsageReport, timeout_s=timeout_s)


def _refused(sentence: str) -> JobRejected:
    """Refused before anything is asked."""
    return JobRejected(JobResult.ended(uuid7(), JobError.of(ErrorCode.INVALID_JOB, sentence)))


def _control(task: str, tenant: str, question: BaseModel, *, timeout_s: float | None = None) -> Job:
    """Ahead of the tenant's own jobs. With `timeout_s`: nobody waits for its answer any longer than that."""
    return Job(
        tenant=tenant,
        task=task,
        messages=[Message(role="user", content=question.model_dump_json(exclude_defaults=True))],
        priority=9,
        deadline=datetime.now(UTC) + timedelta(seconds=timeout_s) if timeout_s else None,
    )


async def _tell(link: Link, job: Job) -> Receipt:
    """However many jobs the tenant has waiting: these give its money back."""
    [receipt] = await link.put([link.packer.prepare(job)], wait_s=0.0, inside=True)
    return receipt


async def _answered(link: Link, job: Job, model: type[M], *, timeout_s: float) -> M:
    result = await link.wait(await _tell(link, job), timeout_s=timeout_s)
    return model.model_validate(raise_unless_answered(result).data)


async def _quietly(giving_back: Awaitable[None]) -> None:
    """What cannot be given back now, for nobody answers, is given back when it expires."""
    with suppress(FleetError):
        await giving_back
