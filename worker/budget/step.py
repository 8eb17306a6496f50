"""HoldBudget: what happens to an attempt's money, before and after its call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from producer_sdk.contract import Job, to_usd
from worker.budget import rules
from worker.budget.rules import WindowLimit
from worker.budget.store import (
    BatchName,
    BudgetStore,
    ClockApart,
    NeedsRebuild,
    Refused,
    Reserved,
    Settled,
    SoftLimit,
)
from worker.errors import (
    BudgetUnavailable,
    HandBack,
    JobStopped,
    JournalRefused,
    LedgerRefused,
    LedgerUnavailable,
)
from worker.job_run import Answer, Attempt, ProceedAttempt

MOST_TRIES = 3
AGAIN_MS = 1000
logger = logging.getLogger(__name__)


class SoftLimitSignal(Protocol):
    """Who is told that a window has reached a soft limit."""

    def __call__(self, *, window: str, scope: str, percent: int) -> None: ...


class HoldBudget:
    """Reserve the highest possible cost before the call; settle in Redis what SQL says it cost.

    An attempt that SQL has not settled keeps its hold: the reaper decides from SQL what becomes of it.
    """

    def __init__(
        self,
        *,
        store: BudgetStore,
        rebuild: Callable[[], Awaitable[None]],
        mirrored: Callable[[Mapping[UUID, tuple[int, int]]], Awaitable[None]],
        runs: Callable[[Job], Awaitable[tuple[str, ...]]],
        warn: SoftLimitSignal,
    ) -> None:
        """`runs`: a job's run and those above it; `warn` is told of soft limits."""
        self._store = store
        self._rebuild = rebuild
        self._mirrored = mirrored
        self._runs = runs
        self._warn = warn

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """Raises JobStopped (budget_exceeded) for a refusal, HandBack when nothing can be admitted now."""
        for _ in range(MOST_TRIES):
            try:
                await self._reserve(attempt)
                return await self._settled_after(attempt, proceed)
            except JournalRefused:
                await self._give_back(attempt)
                attempt = attempt.renewed()
        raise HandBack("the journal refused the attempt again and again", delay_ms=AGAIN_MS)

    async def _reserve(self, attempt: Attempt) -> None:
        tenant, job_run, story = attempt.job_run.known_tenant(), attempt.job_run, attempt.job_run.story
        batch = BatchName(tenant.name, job_run.batch_id) if job_run.batch_id else None
        amount, windows = attempt.call.highest_pico, await self._windows(attempt)
        for _ in range(MOST_TRIES if windows else 0):
            try:
                answer = await self._store.reserve(
                    attempt.id, amount_pico=amount, windows=windows, batch=batch
                )
                if isinstance(answer, NeedsRebuild):
                    await self._rebuild()
            except (BudgetUnavailable, LedgerUnavailable) as error:
                raise HandBack("the budget cannot be checked now", delay_ms=AGAIN_MS) from error
            match answer:
                case Reserved(epoch, covered, soft):
                    attempt.epoch = epoch
                    attempt.windows = rules.charged(windows, covered)
                    attempt.batch_id = job_run.batch_id if covered else None
                    self._tell(soft)
                    story.note(
                        "budget",
                        "held",
                        attempt=attempt.number,
                        worst_usd=f"{to_usd(amount):f}",
                        windows=list(attempt.windows),
                        batch=str(attempt.batch_id) if attempt.batch_id else None,
                    )
                    return
                case Refused(window, settled, held, soft):
                    self._tell(soft)
                    refusal = rules.refusal(
                        tenant.name, window, settled_pico=settled, held_pico=held, amount_pico=amount
                    )
                    amounts = rules.refused(window, settled_pico=settled, held_pico=held, amount_pico=amount)
                    story.note("budget", "refused", attempt=attempt.number, reason=refusal.reason, **amounts)
                    raise JobStopped(refusal)
                case ClockApart(apart_ms):
                    logger.error("this machine's clock is %d ms from Redis' time: set it", apart_ms)
                    raise HandBack("this worker's clock is wrong", delay_ms=AGAIN_MS)
        if windows:
            raise HandBack("the budget's books could not be rebuilt", delay_ms=AGAIN_MS)

    async def _windows(self, attempt: Attempt) -> tuple[WindowLimit, ...]:
        """Where its cost counts: nowhere, where the tenant's own key pays."""
        job_run, tenant = attempt.job_run, attempt.job_run.known_tenant()
        if attempt.call.own_key:
            return ()
        runs: tuple[str, ...] = ()
        if tenant.tier.run_budget_usd is not None:
            try:
                runs = await self._runs(job_run.job)
            except LedgerUnavailable as error:
                raise HandBack("the budget cannot be checked now", delay_ms=AGAIN_MS) from error
        provider = attempt.call.deployment.provider
        spender = rules.Spender(job_run.job.feature, runs, provider, job_run.routing.fleet)
        return rules.windows(tenant, attempt.created_at, spender)

    def _tell(self, reached: Sequence[SoftLimit]) -> None:
        for soft in reached:
            scope = soft.window.scope
            # a run is named by its producer, and a metric keeps every name for ever
            scope = scope if soft.window.date else f"r:{scope.split(':')[1]}"
            self._warn(window=soft.window.name, scope=scope, percent=soft.percent)

    async def _settled_after(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        try:
            return await proceed(attempt)
        finally:
            if attempt.windows and attempt.settled_pico is not None:
                await self._settle(attempt, attempt.settled_pico)

    async def _settle(self, attempt: Attempt, amount_pico: int) -> None:
        try:
            answer = await self._store.settle(
                attempt.id, amount_pico=amount_pico, returns_share=attempt.returns_share
            )
            if isinstance(answer, Settled):
                await self._mirrored({attempt.id: (answer.epoch, amount_pico)})
        except (BudgetUnavailable, LedgerUnavailable, LedgerRefused) as error:
            logger.warning("attempt %s is left to the reaper: %s", attempt.id, error)

    async def _give_back(self, attempt: Attempt) -> None:
        """The journal has no row of it: nothing was called. Its refusal may also mean that the books are old."""
        try:
            if attempt.windows:
                await self._store.free([attempt.id])
            await self._rebuild()
        except (BudgetUnavailable, LedgerUnavailable) as error:
            raise HandBack("the budget cannot be checked now", delay_ms=AGAIN_MS) from error
