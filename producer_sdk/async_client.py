"""AsyncFleet: submit LLM jobs and await their results, on the caller's event loop."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import date
from types import TracebackType
from typing import Any, Literal, Unpack

from producer_sdk.batch import JobFields, Messages, embedding
from producer_sdk.contract import Crossing, Job, JobResult
from producer_sdk.contract.control import UsageDimension, UsageReport
from producer_sdk.errors import BrokerUnavailable, JobRejected, SubmitInterrupted
from producer_sdk.handle import WAIT_S, AsyncBatch, AsyncJobHandle, remembered, sorted_out
from producer_sdk.lanes import DeadJob
from producer_sdk.link import Cancelled, JobState, Link, as_id
from producer_sdk.reservation import (
    ANSWER_S,
    RESERVE_FOR_S,
    check_reserve,
    submit_reserved,
    usage_report,
)
from producer_sdk.settings import FleetSettings


class AsyncFleet:
    """A fleet's front door for asyncio. Use it as a context manager, or call `close`.

    Settings come from the environment unless given: see FleetSettings. Its methods are Fleet's, awaited.
    """

    def __init__(self, settings: FleetSettings | None = None, *, crossing: Crossing | None = None) -> None:
        self.settings = settings or FleetSettings.from_env()
        self._link = Link(self.settings, crossing)

    async def submit(
        self, *, task: str, tenant: str, messages: Messages, wait_s: float = 0.0, **fields: Unpack[JobFields]
    ) -> AsyncJobHandle:
        """Put one job into its lane; `fields` are Job's. A str is one user message.

        `wait_s`: for how long to wait for room when the tenant's queue is full. Raises JobRejected (invalid_job
        before anything is sent, queue_full) and BrokerUnavailable. The same idempotency_key, or job_id, is the same
        job: its handle says `duplicate`.
        """
        return await self._put(
            {"task": task, "tenant": tenant, "messages": messages, **fields}, wait_s=wait_s
        )

    async def embed(
        self,
        *,
        task: str,
        tenant: str,
        inputs: str | list[str],
        dimensions: int | None = None,
        wait_s: float = 0.0,
        **fields: Unpack[JobFields],
    ) -> AsyncJobHandle:
        """Put one job that makes a vector of each input, up to 2,048; its task is an embedding.

        The vectors are `(await handle.result()).embeddings`, in the inputs' order. Raises what `submit` raises.
        """
        job = {"task": task, "tenant": tenant, **embedding(inputs, dimensions, fields)}
        return await self._put(job, wait_s=wait_s)

    async def _put(self, job: Mapping[str, Any], *, wait_s: float) -> AsyncJobHandle:
        [receipt] = await self._link.put([self._link.packer.prepare(job)], wait_s=wait_s)
        if receipt.refused:
            raise JobRejected(receipt.refused)
        return AsyncJobHandle(receipt, self._link)

    async def submit_many(
        self,
        jobs: Iterable[Job | Mapping[str, Any]],
        *,
        wait_s: float = 0.0,
        reserve: Literal["batch"] | None = None,
        reserve_for_s: int = RESERVE_FOR_S,
    ) -> AsyncBatch:
        """Put many jobs, pipelined; one handle each, in order. A refused job refuses nobody else.

        `reserve="batch"`: what all of them may cost is held before the first is put, for `reserve_for_s` seconds; or
        none is put, and JobRejected says how much is missing. Raises SubmitInterrupted when the broker goes away in
        the middle, and ResultTimeout when no worker answers.
        """
        if check_reserve(reserve):
            try:
                reserved = await submit_reserved(self._link, jobs, wait_s=wait_s, for_s=reserve_for_s)
            except SubmitInterrupted as error:
                handled = [AsyncJobHandle(receipt, self._link) for receipt in error.handles]
                raise SubmitInterrupted(str(error), handled) from error
            of_batch = [AsyncJobHandle(receipt, self._link) for receipt in reserved.receipts]
            return AsyncBatch(of_batch, self._link, reserved)
        handles: list[AsyncJobHandle] = []
        for chunk in self._link.packer.chunks(jobs):
            try:
                receipts = await self._link.put(chunk, wait_s=wait_s)
            except BrokerUnavailable as error:
                raise SubmitInterrupted(str(error), handles) from error
            handles += [AsyncJobHandle(receipt, self._link) for receipt in receipts]
        return AsyncBatch(handles, self._link)

    async def run(
        self,
        *,
        task: str,
        tenant: str,
        messages: Messages,
        timeout: float = WAIT_S,
        wait_s: float = 0.0,
        **fields: Unpack[JobFields],
    ) -> JobResult:
        """Submit one job and wait for its answer: `submit`, then `result`."""
        job = await self.submit(task=task, tenant=tenant, messages=messages, wait_s=wait_s, **fields)
        return await job.result(timeout)

    async def result(self, job: AsyncJobHandle | uuid.UUID | str, *, timeout: float = WAIT_S) -> JobResult:
        """The answer of a job of this or any other process. Raises what AsyncJobHandle.result raises."""
        handle = job if isinstance(job, AsyncJobHandle) else await self.get(job)
        return await handle.result(timeout)

    async def as_completed(
        self, handles: Iterable[AsyncJobHandle], *, timeout: float = WAIT_S
    ) -> AsyncIterator[AsyncJobHandle]:
        """The handles as their jobs end, however they end: `result()` then answers at once. Raises ResultTimeout."""
        refused, waiting = sorted_out(handles)
        for handle in refused:
            yield handle
        receipts = [handle.receipt for same in waiting.values() for handle in same]
        async with aclosing(self._link.completed(receipts, timeout_s=timeout)) as steps:
            async for ended in steps:
                for job_id, outcome in ended.items():
                    for handle in remembered(waiting[job_id], outcome):
                        yield handle

    async def get(self, job_id: uuid.UUID | str) -> AsyncJobHandle:
        """A handle for a job of any process. Raises UnknownJob."""
        return AsyncJobHandle(await self._link.find(as_id(job_id)), self._link)

    async def status(self, job_id: uuid.UUID | str) -> JobState:
        """Where the job is now, or how it ended; "unknown" where the fleet has never heard of it."""
        return await self._link.status(as_id(job_id))

    async def cancel(self, job_id: uuid.UUID | str) -> Cancelled:
        """End a job; answers where it was ("finished": too late). Raises UnknownJob."""
        return await self._link.cancel(as_id(job_id))

    async def usage(
        self,
        *,
        tenant: str,
        by: Sequence[UsageDimension] = (),
        since: date | None = None,
        before: date | None = None,
        timeout: float = ANSWER_S,
    ) -> UsageReport:
        """What a tenant has used, by these dimensions, in days of UTC; a worker answers from the ledger.

        Without `since`: this month. Raises JobRejected (unknown_tenant) and ResultTimeout when no worker answers.
        """
        return await usage_report(
            self._link, tenant=tenant, by=by, since=since, before=before, timeout_s=timeout
        )

    async def dead_letters(self, *, limit: int = 100, tenant: str | None = None) -> list[DeadJob]:
        """The jobs that the lanes gave up, the newest first; of one tenant where it is named."""
        return await self._link.dead_letters(limit=limit, tenant=tenant)

    async def dead_message(self, job_id: uuid.UUID | str) -> bytes:
        """A dead letter's message as it came (docs/wire.md). Raises UnknownJob."""
        return await self._link.dead_message(str(job_id))

    async def replay(self, job_id: uuid.UUID | str) -> AsyncJobHandle:
        """Run a dead letter once more, as a job of its own: the handle's. Raises UnknownJob, JobRejected."""
        receipt = await self._link.replay(as_id(job_id))
        if receipt.refused:
            raise JobRejected(receipt.refused)
        return AsyncJobHandle(receipt, self._link)

    async def discard(self, job_ids: Iterable[uuid.UUID | str]) -> int:
        """Take dead letters off their list; how many were on it."""
        return await self._link.discard([str(job_id) for job_id in job_ids])

    async def close(self) -> None:
        """Close every connection. Jobs go on without us."""
        await self._link.close()

    async def __aenter__(self) -> AsyncFleet:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()
