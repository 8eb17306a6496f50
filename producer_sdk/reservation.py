"""Batches that reserve their sum before their first line, and what else is asked of the fleet itself."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel

from producer_sdk.batch import Prepared, Receipt
from producer_sdk.contract import Job, Message
from producer_sdk.contract.control import (
    MOST_LINES,
    RELEASE,
    RESERVE,
    USAGE,
    BatchReserved,
    ReleaseBatches,
    ReserveBatch,
    UsageQuestion,
    UsageReport,
)
from producer_sdk.errors import FleetError, ResultTimeout, raise_unless_answered
from producer_sdk.link import Link

ANSWER_S = 60.0
RESERVE_FOR_S = 86_400
MOST_QUESTION_BYTES = 3 * 1024 * 1024  # of the 8 MB that a message may have: the question is quoted once more
MOST_AT_ONCE = 100
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Reserved:
    """The receipts of a batch's lines, in order, and what was held for them."""

    receipts: list[Receipt]
    batches: tuple[tuple[str, BatchReserved], ...]

    @property
    def usd(self) -> Decimal:
        """The sum of what was held."""
        return sum((batch.reserved_usd for _tenant, batch in self.batches), Decimal(0))


async def submit_reserved(
    link: Link,
    jobs: Iterable[Job | Mapping[str, Any]],
    *,
    wait_s: float,
    for_s: int,
    timeout_s: float = ANSWER_S,
) -> Reserved:
    """Hold the sum of all jobs, then put them; or put none. Raises JobRejected (budget_exceeded), ResultTimeout.

    What is wrong with one job is its own receipt's error. What was held is given back where the rest cannot be.
    """
    checked = [link.packer.check(job) for job in jobs]
    held: list[tuple[str, BatchReserved]] = []
    batch_of: dict[uuid.UUID, uuid.UUID] = {}
    try:
        for part in _parts([one for one in checked if isinstance(one, Job)]):
            batch = await _reserve(link, part, for_s=for_s, timeout_s=timeout_s)
            held.append((part[0].tenant, batch))
            batch_of |= {job.job_id: batch.batch_id for job in part}
        receipts = await _put(link, checked, batch_of, wait_s=wait_s)
    except BaseException:
        await asyncio.shield(_quietly(release(link, held, timeout_s=timeout_s)))
        raise
    accepted = dict.fromkeys((batch.batch_id for _tenant, batch in held), 0)
    for receipt in receipts:
        if receipt.outcome == "accepted":
            accepted[batch_of[receipt.job_id]] += 1
    short = [one for one in held if accepted[one[1].batch_id] < one[1].lines]
    await _quietly(release(link, short, accepted=accepted, timeout_s=timeout_s))
    return Reserved(receipts, tuple(held))


async def _put(
    link: Link, checked: Sequence[Job | Prepared], batch_of: Mapping[uuid.UUID, uuid.UUID], *, wait_s: float
) -> list[Receipt]:
    receipts: list[Receipt] = []
    for chunk in link.packer.chunks(checked, batch_of=lambda job: batch_of.get(job.job_id)):
        receipts += await link.put(chunk, wait_s=wait_s)
    return receipts


def _parts(jobs: Sequence[Job]) -> list[list[Job]]:
    """Each of one tenant, and no larger than one question may be."""
    parts: dict[str, list[list[Job]]] = {}
    sizes: dict[str, int] = {}
    for job in jobs:
        size = len(job.model_dump_json(exclude_defaults=True))
        of_tenant = parts.setdefault(job.tenant, [])
        if (
            not of_tenant
            or len(of_tenant[-1]) == MOST_LINES
            or sizes[job.tenant] + size > MOST_QUESTION_BYTES
        ):
            of_tenant.append([])
            sizes[job.tenant] = 0
        of_tenant[-1].append(job)
        sizes[job.tenant] += size
    return [part for of_tenant in parts.values() for part in of_tenant]


async def _reserve(link: Link, lines: list[Job], *, for_s: int, timeout_s: float) -> BatchReserved:
    tenant, question = lines[0].tenant, ReserveBatch(lines=lines, for_s=for_s)
    job = _control(RESERVE, tenant, question, timeout_s=timeout_s)
    try:
        return await _answered(link, job, BatchReserved, timeout_s=timeout_s)
    except (ResultTimeout, asyncio.CancelledError):
        # It may be held all the same, or soon: it is given back as soon as somebody answers.
        await asyncio.shield(_quietly(_give_up(link, job)))
        raise


async def _give_up(link: Link, job: Job) -> None:
    await link.cancel(job.job_id)
    question = ReleaseBatches(batches={job.job_id: None})
    await link.put([link.packer.prepare(_control(RELEASE, job.tenant, question))], wait_s=0.0)


async def release(
    link: Link,
    batches: Sequence[tuple[str, BatchReserved]],
    *,
    accepted: Mapping[uuid.UUID, int] | None = None,
    timeout_s: float = ANSWER_S,
) -> None:
    """Give back what is left of these; with `accepted`, only say how many lines are to come."""
    by_tenant: dict[str, dict[uuid.UUID, int | None]] = {}
    for tenant, batch in batches:
        lines = accepted[batch.batch_id] if accepted else None
        by_tenant.setdefault(tenant, {})[batch.batch_id] = lines
    for tenant, of_tenant in by_tenant.items():
        job = _control(RELEASE, tenant, ReleaseBatches(batches=of_tenant))
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


async def usage_report(link: Link, *, tenant: str, question: UsageQuestion, timeout_s: float) -> UsageReport:
    """A tenant's usage as the fleet's ledger has it. Raises JobRejected (unknown_tenant), ResultTimeout."""
    job = _control(USAGE, tenant, question, timeout_s=timeout_s)
    return await _answered(link, job, UsageReport, timeout_s=timeout_s)


def _control(task: str, tenant: str, question: BaseModel, *, timeout_s: float | None = None) -> Job:
    """Ahead of the tenant's own jobs. With `timeout_s`: nobody waits for its answer any longer than that."""
    return Job(
        tenant=tenant,
        task=task,
        messages=[Message(role="user", content=question.model_dump_json(exclude_defaults=True))],
        priority=9,
        deadline=datetime.now(UTC) + timedelta(seconds=timeout_s) if timeout_s else None,
    )


async def _answered(link: Link, job: Job, model: type[M], *, timeout_s: float) -> M:
    [receipt] = await link.put([link.packer.prepare(job)], wait_s=timeout_s)
    result = raise_unless_answered(await link.wait(receipt, timeout_s=timeout_s))
    return model.model_validate(result.data)


async def _quietly(giving_back: Awaitable[None]) -> None:
    """What cannot be given back now, for nobody answers, is given back when it expires."""
    with suppress(FleetError):
        await giving_back
