"""Hedging: a second attempt beside a silent first one. Whose first token comes first answers, the other is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from producer_sdk.contract import to_pico
from worker.errors import DeploymentUnavailable, HandBack, JobStopped, LedgerUnavailable, ProviderError
from worker.fallback import rules
from worker.job_run import Answer, Attempt, JobRun, PlannedCall, ProceedAttempt

# What ends one attempt and leaves the other to answer. Whatever else comes ends both.
_FAILED = (ProviderError, DeploymentUnavailable, JobStopped)
_NOT_BEGUN = (*_FAILED, HandBack, LedgerUnavailable)  # of the second: it could not be reserved for, say
NextAttempt = Callable[[], Awaitable[Attempt | None]]


def after_s(job_run: JobRun, rest: Sequence[PlannedCall]) -> float | None:
    """How long the first attempt may stay silent before the next deployment is asked too; None: that is not to be done.

    A job is hedged while nothing has been spent on it and no earlier attempt's outcome is open, so that one hedge at
    most costs anything; not in the batch lane, where nobody waits, and not as the last job that its run may have.
    """
    after_ms = job_run.known_task().hedge_after_ms
    is_fresh = not (job_run.spent_pico or job_run.unresolved_attempts)
    nobody_waits = job_run.job.lane == "batch" or job_run.batch_id is not None
    if after_ms is None or not rest or not is_fresh or nobody_waits or job_run.run_calls_left == 0:
        return None
    return after_ms / 1000


def second_call(job_run: JobRun, first: PlannedCall, rest: Sequence[PlannedCall]) -> PlannedCall | None:
    """The next call of the plan, where the cost limit holds the worst case of both and the time is enough for it."""
    if not rest or job_run.remaining_s() < rules.LEAST_ATTEMPT_S:
        return None
    call, limit = rest[0], job_run.known_task().max_cost_usd
    limit_pico = None if limit is None else to_pico(limit)
    fits = rules.fits_cost(call, limit_pico=limit_pico, spent_pico=job_run.spent_pico + first.highest_pico)
    in_time = rules.fits_time(call, remaining_s=job_run.remaining_s(), others=True)
    return call if fits and in_time else None


@dataclass(frozen=True)
class Ended:
    """An attempt that gave no answer."""

    attempt: Attempt
    error: Exception


@dataclass
class Raced:
    """The answer, or why there is none: what each attempt met, in the order of their ends.

    `second` was begun; `closed` was silent when the other's first token came.
    """

    answer: Answer | None = None
    ended: list[Ended] = field(default_factory=list)
    second: Attempt | None = None
    closed: Attempt | None = None


async def race(
    first: Attempt,
    *,
    silent_s: float,
    second: NextAttempt,
    proceed: ProceedAttempt,
    told: Callable[[Attempt], None],
) -> Raced:
    """The first attempt alone, or with the `second` once it has been silent for so long; `told` of one that is begun.

    Whatever ends this, a cancellation too, no attempt is left open: each that is closed has settled before.
    """
    both = _Race(proceed)
    try:
        both.start(first)
        await asyncio.wait(both.open, timeout=silent_s)
        other = await second() if both.is_silent else None
        if other and both.is_silent:
            both.result.second = other
            told(other)
            both.start(other)
        return await both.decided(first)
    finally:
        await both.close()


class _Race:
    """Attempts that are open at the same time, each a task of its own."""

    def __init__(self, proceed: ProceedAttempt) -> None:
        self.open: dict[asyncio.Task[Answer], Attempt] = {}
        self.result = Raced()
        self._proceed = proceed
        self._began: dict[int, float] = {}  # by the attempt's number
        self._winner: Attempt | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing has come of the first attempt: no token, and no end."""
        return self._winner is None and not any(task.done() for task in self.open)

    def start(self, attempt: Attempt) -> None:
        """Open one more."""
        attempt.on_first_token = partial(self._speaks, attempt)
        self._began[attempt.number] = time.monotonic()
        task = asyncio.ensure_future(self._proceed(attempt))
        task.add_done_callback(_seen)
        self.open[task] = attempt

    async def decided(self, first: Attempt) -> Raced:
        """Until one has answered, or none is left. Raises what ends both."""
        while self.open and self.result.answer is None:
            done, _open = await asyncio.wait(self.open, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._end(task, self.open.pop(task), first)
        return self.result

    def _end(self, task: asyncio.Task[Answer], attempt: Attempt, first: Attempt) -> None:
        if task.cancelled():
            self.result.closed = attempt
            return
        error = task.exception()
        if error is None:
            self.result.answer = task.result()
            return
        passing: tuple[type[Exception], ...] = _FAILED if attempt is first else _NOT_BEGUN
        if not isinstance(error, passing):
            raise error
        self.result.ended.append(Ended(attempt, error))

    async def _speaks(self, attempt: Attempt) -> None:
        """Its first token has come. It goes on once the other is closed and settled: the job's bill is whole then."""
        if self._winner is None:
            self._winner = attempt
            others = {task: other for task, other in self.open.items() if other is not attempt}
            for other in others.values():
                other.silent_ms = int(1000 * (time.monotonic() - self._began[other.number]))
            await _closed(others)
        elif self._winner is not attempt:
            await asyncio.sleep(0)  # it is being closed: here

    async def close(self) -> None:
        """Close all that is open, and wait until it has settled."""
        await _closed(tuple(self.open))


def _seen(task: asyncio.Task[Answer]) -> None:
    """What it met is looked at, though nobody waits for it any more."""
    if not task.cancelled():
        task.exception()


async def _closed(tasks: Collection[asyncio.Task[Answer]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
