"""A job in a producer's hands: awaited (AsyncJobHandle) or blocking (JobHandle), the same four questions."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from decimal import Decimal
from typing import TypeVar

from producer_sdk.batch import Outcome, Receipt
from producer_sdk.contract import JobError, JobResult, StreamEvent
from producer_sdk.errors import FleetError, raise_unless_answered
from producer_sdk.link import Cancelled, JobState, Link
from producer_sdk.loop_thread import LoopThread
from producer_sdk.reservation import Reserved, cancel_all, release

WAIT_S = 300.0
T = TypeVar("T")
H = TypeVar("H", bound="_Answered")


class _Answered:
    """What both handles know without asking: the fleet's answer to the job, and its end once it was seen."""

    def __init__(self, receipt: Receipt) -> None:
        self.receipt = receipt
        self._ended: JobResult | FleetError | None = receipt.refused

    @property
    def job_id(self) -> uuid.UUID:
        """The job's id; for a duplicate, that of the first."""
        return self.receipt.job_id

    @property
    def outcome(self) -> Outcome:
        """accepted, duplicate (the same job is already there), refused (see `.error`), or found by its id."""
        return self.receipt.outcome

    @property
    def error(self) -> JobError | None:
        """Why the job was refused."""
        return self.receipt.error

    def remember(self, ended: JobResult | FleetError) -> None:
        """Keep the job's end, so that it is asked for once."""
        self._ended = ended

    def _known(self) -> JobResult | None:
        if isinstance(self._ended, FleetError):
            raise self._ended
        return self._ended

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job_id} {self.outcome}>"


class AsyncJobHandle(_Answered):
    """A job of an AsyncFleet."""

    def __init__(self, receipt: Receipt, link: Link) -> None:
        super().__init__(receipt)
        self._link = link

    async def wait(self, timeout: float = WAIT_S) -> JobResult:
        """How the job ended, whatever its status. Raises ResultTimeout or BrokerUnavailable."""
        result = self._known() or await self._link.wait(self.receipt, timeout_s=timeout)
        self.remember(result)
        return result

    async def result(self, timeout: float = WAIT_S) -> JobResult:
        """The answer. Raises JobRejected, JobFailed or JobCancelled, and what `wait` raises."""
        return raise_unless_answered(await self.wait(timeout))

    def stream(self, *, after: str = "", timeout: float = WAIT_S) -> AsyncGenerator[StreamEvent, None]:
        """The answer as it comes, from after the event with this id; ends with the job. Iterate with `async for`.

        A `begin` voids the text before it. A job that was not submitted with `stream=True`, or whose stream is gone,
        tells its answer at its end, as a whole. Raises BrokerUnavailable, and ResultTimeout when the job has not ended
        in time.
        """
        return self._link.stream(self.receipt, after=after, timeout_s=timeout)

    async def status(self) -> JobState:
        """Where the job is now, or how it ended."""
        return self.receipt.refused.status if self.receipt.refused else await self._link.status(self.job_id)

    async def cancel(self) -> Cancelled:
        """End the job; answers where it was. Its result says `cancelled`, unless it was finished."""
        return "finished" if self.receipt.refused else await self._link.cancel(self.job_id)


class JobHandle(_Answered):
    """A job of a Fleet; works in threads, and in a forked child."""

    def __init__(self, receipt: Receipt, thread: LoopThread) -> None:
        super().__init__(receipt)
        self._thread = thread

    def wait(self, timeout: float = WAIT_S) -> JobResult:
        """How the job ended, whatever its status. Raises ResultTimeout or BrokerUnavailable."""
        known = self._known()
        result = known or self._thread.call(lambda link: link.wait(self.receipt, timeout_s=timeout))
        self.remember(result)
        return result

    def result(self, timeout: float = WAIT_S) -> JobResult:
        """The answer. Raises JobRejected, JobFailed or JobCancelled, and what `wait` raises."""
        return raise_unless_answered(self.wait(timeout))

    def stream(self, *, after: str = "", timeout: float = WAIT_S) -> Generator[StreamEvent, None, None]:
        """The answer as it comes, from after the event with this id; ends with the job.

        A `begin` voids the text before it. A job that was not submitted with `stream=True`, or whose stream is gone,
        tells its answer at its end, as a whole. Raises BrokerUnavailable, and ResultTimeout when the job has not ended
        in time.
        """
        steps = self._thread.link().stream(self.receipt, after=after, timeout_s=timeout)
        try:
            while (event := self._thread.call(lambda _link: _next(steps))) is not None:
                yield event
        finally:
            with contextlib.suppress(FleetError):  # closed meanwhile: then so is this
                self._thread.call(lambda _link: steps.aclose())

    def status(self) -> JobState:
        """Where the job is now, or how it ended."""
        if self.receipt.refused:
            return self.receipt.refused.status
        return self._thread.call(lambda link: link.status(self.job_id))

    def cancel(self) -> Cancelled:
        """End the job; answers where it was. Its result says `cancelled`, unless it was finished."""
        if self.receipt.refused:
            return "finished"
        return self._thread.call(lambda link: link.cancel(self.job_id))


async def _next(steps: AsyncGenerator[T, None]) -> T | None:
    return await anext(steps, None)


class AsyncBatch(list[AsyncJobHandle]):
    """The handles of `submit_many`, in order; with `reserve="batch"`, also what was held for them."""

    def __init__(
        self, handles: Iterable[AsyncJobHandle], link: Link, reserved: Reserved | None = None
    ) -> None:
        super().__init__(handles)
        self._link = link
        self._reserved = reserved

    @property
    def reserved_usd(self) -> Decimal:
        """What was held before the first line was put."""
        return self._reserved.usd if self._reserved else Decimal(0)

    async def cancel(self) -> int:
        """Cancel every line that has not ended, and give back what is left of what was held; how many lines."""
        return await _cancelled(self._link, [handle.receipt for handle in self], self._reserved)


class Batch(list[JobHandle]):
    """The handles of `submit_many`, in order; with `reserve="batch"`, also what was held for them."""

    def __init__(
        self, handles: Iterable[JobHandle], thread: LoopThread, reserved: Reserved | None = None
    ) -> None:
        super().__init__(handles)
        self._thread = thread
        self._reserved = reserved

    @property
    def reserved_usd(self) -> Decimal:
        """What was held before the first line was put."""
        return self._reserved.usd if self._reserved else Decimal(0)

    def cancel(self) -> int:
        """Cancel every line that has not ended, and give back what is left of what was held; how many lines."""
        receipts = [handle.receipt for handle in self]
        return self._thread.call(lambda link: _cancelled(link, receipts, self._reserved))


async def _cancelled(link: Link, receipts: Sequence[Receipt], reserved: Reserved | None) -> int:
    cancelled = await cancel_all(link, receipts)
    if reserved:
        await release(link, reserved.batches)
    return cancelled


def sorted_out(handles: Iterable[H]) -> tuple[list[H], dict[uuid.UUID, list[H]]]:
    """Those that were refused, and the others by job: a job and its duplicates end together."""
    refused: list[H] = []
    waiting: dict[uuid.UUID, list[H]] = {}
    for handle in handles:
        if handle.receipt.refused:
            refused.append(handle)
        else:
            waiting.setdefault(handle.job_id, []).append(handle)
    return refused, waiting


def remembered(handles: list[H], ended: JobResult | FleetError) -> list[H]:
    """The same handles, which know now how their job ended."""
    for handle in handles:
        handle.remember(ended)
    return handles
