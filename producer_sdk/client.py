"""Fleet: submit LLM jobs and wait for their results, from code that blocks. AsyncFleet does the work."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import date
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack

from producer_sdk.batch import JobFields, Messages, Receipt, embedding
from producer_sdk.contract import Crossing, Job, JobResult
from producer_sdk.contract.control import UsageDimension, UsageReport
from producer_sdk.errors import BrokerUnavailable, FleetError, JobRejected, SubmitInterrupted
from producer_sdk.handle import WAIT_S, Batch, JobHandle, remembered, sorted_out
from producer_sdk.lanes import DeadJob
from producer_sdk.link import Cancelled, JobState, as_id
from producer_sdk.loop_thread import LoopThread, finished
from producer_sdk.reservation import (
    ANSWER_S,
    RESERVE_FOR_S,
    check_reserve,
    submit_reserved,
    usage_report,
)
from producer_sdk.settings import FleetSettings

T = TypeVar("T")


class Fleet:
    """A fleet's front door. Works in threads and in forked children; closes itself when the process ends.

    Settings come from the environment unless given: see FleetSettings. Its methods are AsyncFleet's; they run on a
    private event loop in a background thread, which starts with the first call.
    """

    def __init__(self, settings: FleetSettings | None = None, *, crossing: Crossing | None = None) -> None:
        self.settings = settings or FleetSettings.from_env()
        self._thread = LoopThread(self.settings, crossing)

    def submit(
        self, *, task: str, tenant: str, messages: Messages, wait_s: float = 0.0, **fields: Unpack[JobFields]
    ) -> JobHandle:
        """Put one job into its lane; `fields` are Job's. A str is one user message.

        `wait_s`: for how long to wait for room when the tenant's queue is full. Raises JobRejected (invalid_job
        before anything is sent, queue_full) and BrokerUnavailable. The same idempotency_key, or job_id, is the same
        job: its handle says `duplicate`.
        """
        return self._put({"task": task, "tenant": tenant, "messages": messages, **fields}, wait_s=wait_s)

    def embed(
        self,
        *,
        task: str,
        tenant: str,
        inputs: str | list[str],
        dimensions: int | None = None,
        wait_s: float = 0.0,
        **fields: Unpack[JobFields],
    ) -> JobHandle:
        """Put one job that makes a vector of each input, up to 2,048; its task is an embedding.

        The vectors are `handle.result().embeddings`, in the inputs' order. Raises what `submit` raises.
        """
        job = {"task": task, "tenant": tenant, **embedding(inputs, dimensions, fields)}
        return self._put(job, wait_s=wait_s)

    def _put(self, job: Mapping[str, Any], *, wait_s: float) -> JobHandle:
        prepared = self._thread.link().packer.prepare(job)
        [receipt] = self._thread.call(lambda link: link.put([prepared], wait_s=wait_s))
        if receipt.refused:
            raise JobRejected(receipt.refused)
        return JobHandle(receipt, self._thread)

    def submit_many(
        self,
        jobs: Iterable[Job | Mapping[str, Any]],
        *,
        wait_s: float = 0.0,
        reserve: Literal["batch"] | None = None,
        reserve_for_s: int = RESERVE_FOR_S,
    ) -> Batch:
        """Put many jobs, pipelined; one handle each, in order. A refused job refuses nobody else.

        `jobs` is read in the caller's thread, one chunk ahead of the broker. `reserve="batch"`: all are read first, and
        what they may cost is held before the first is put, for `reserve_for_s` seconds; or none is put, and JobRejected
        says how much is missing. Raises SubmitInterrupted when the broker goes away in the middle, and ResultTimeout
        when no worker answers.
        """
        if check_reserve(reserve):
            read = list(jobs)
            try:
                reserved = self._thread.call(
                    lambda link: submit_reserved(link, read, wait_s=wait_s, for_s=reserve_for_s)
                )
            except SubmitInterrupted as error:
                handled = [JobHandle(receipt, self._thread) for receipt in error.handles]
                raise SubmitInterrupted(str(error), handled) from error
            return Batch(
                [JobHandle(receipt, self._thread) for receipt in reserved.receipts], self._thread, reserved
            )
        handles: list[JobHandle] = []
        under_way: Future[list[Receipt]] | None = None
        try:
            for chunk in self._thread.link().packer.chunks(jobs):
                handles += self._answered(under_way)
                under_way = self._thread.start(lambda link, chunk=chunk: link.put(chunk, wait_s=wait_s))  # type: ignore[misc]
            handles += self._answered(under_way)
        except BrokerUnavailable as error:
            raise SubmitInterrupted(str(error), handles) from error
        return Batch(handles, self._thread)

    def _answered(self, under_way: Future[list[Receipt]] | None) -> list[JobHandle]:
        return [JobHandle(receipt, self._thread) for receipt in finished(under_way)] if under_way else []

    def run(
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
        job = self.submit(task=task, tenant=tenant, messages=messages, wait_s=wait_s, **fields)
        return job.result(timeout)

    def result(self, job: JobHandle | uuid.UUID | str, *, timeout: float = WAIT_S) -> JobResult:
        """The answer of a job of this or any other process. Raises what JobHandle.result raises."""
        handle = job if isinstance(job, JobHandle) else self.get(job)
        return handle.result(timeout)

    def as_completed(self, handles: Iterable[JobHandle], *, timeout: float = WAIT_S) -> Iterator[JobHandle]:
        """The handles as their jobs end, however they end: `result()` then answers at once. Raises ResultTimeout."""
        refused, waiting = sorted_out(handles)
        yield from refused
        receipts = [handle.receipt for same in waiting.values() for handle in same]
        steps = self._thread.link().completed(receipts, timeout_s=timeout)
        try:
            while waiting:
                for job_id, outcome in self._thread.call(lambda _link: _next(steps)).items():
                    yield from remembered(waiting.pop(job_id), outcome)
        finally:
            with contextlib.suppress(FleetError):  # closed meanwhile: then so is this
                self._thread.call(lambda _link: steps.aclose())

    def get(self, job_id: uuid.UUID | str) -> JobHandle:
        """A handle for a job of any process. Raises UnknownJob."""
        found = as_id(job_id)
        return JobHandle(self._thread.call(lambda link: link.find(found)), self._thread)

    def status(self, job_id: uuid.UUID | str) -> JobState:
        """Where the job is now, or how it ended; "unknown" where the fleet has never heard of it."""
        wanted = as_id(job_id)
        return self._thread.call(lambda link: link.status(wanted))

    def cancel(self, job_id: uuid.UUID | str) -> Cancelled:
        """End a job; answers where it was ("finished": too late). Raises UnknownJob."""
        wanted = as_id(job_id)
        return self._thread.call(lambda link: link.cancel(wanted))

    def usage(
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
        return self._thread.call(
            lambda link: usage_report(
                link, tenant=tenant, by=by, since=since, before=before, timeout_s=timeout
            )
        )

    def dead_letters(self, *, limit: int = 100, tenant: str | None = None) -> list[DeadJob]:
        """The jobs that the lanes gave up, the newest first; of one tenant where it is named."""
        return self._thread.call(lambda link: link.dead_letters(limit=limit, tenant=tenant))

    def dead_message(self, job_id: uuid.UUID | str) -> bytes:
        """A dead letter's message as it came (docs/wire.md). Raises UnknownJob."""
        return self._thread.call(lambda link: link.dead_message(str(job_id)))

    def replay(self, job_id: uuid.UUID | str) -> JobHandle:
        """Run a dead letter once more, as a job of its own: the handle's. Raises UnknownJob, JobRejected."""
        wanted = as_id(job_id)
        receipt = self._thread.call(lambda link: link.replay(wanted))
        if receipt.refused:
            raise JobRejected(receipt.refused)
        return JobHandle(receipt, self._thread)

    def discard(self, job_ids: Iterable[uuid.UUID | str]) -> int:
        """Take dead letters off their list; how many were on it."""
        wanted = [str(job_id) for job_id in job_ids]
        return self._thread.call(lambda link: link.discard(wanted))

    def close(self) -> None:
        """Close every connection and end the thread. Jobs go on without us."""
        self._thread.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(steps: AsyncGenerator[T, None]) -> T:
    return await anext(steps)
