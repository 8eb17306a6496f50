"""HoldBudget: what happens to an attempt's money, before and after its call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from worker.budget import rules
from worker.budget.store import BudgetStore, ClockApart, NeedsRebuild, Refused, Reserved, Settled
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


def _spender(attempt: Attempt) -> rules.Spender:
    job = attempt.job_run.job
    runs = tuple(run for run in (job.run_id, job.parent_run_id) if run)
    fleet = attempt.job_run.routing.fleet
    return rules.Spender(job.feature, runs, attempt.call.deployment.provider, fleet)


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
    ) -> None:
        self._store = store
        self._rebuild = rebuild
        self._mirrored = mirrored

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
        tenant = attempt.job_run.known_tenant()
        windows = rules.windows(tenant, attempt.created_at, _spender(attempt))
        amount = attempt.call.highest_pico
        for _ in range(MOST_TRIES if windows else 0):
            try:
                answer = await self._store.reserve(attempt.id, amount_pico=amount, windows=windows)
                if isinstance(answer, NeedsRebuild):
                    await self._rebuild()
            except (BudgetUnavailable, LedgerUnavailable) as error:
                raise HandBack("the budget cannot be checked now", delay_ms=AGAIN_MS) from error
            match answer:
                case Reserved(epoch):
                    attempt.epoch = epoch
                    attempt.windows = tuple(window.name for window in windows)
                    return
                case Refused(window, settled, held):
                    raise JobStopped(
                        rules.refusal(
                            tenant.name, window, settled_pico=settled, held_pico=held, amount_pico=amount
                        )
                    )
                case ClockApart(apart_ms):
                    logger.error("this machine's clock is %d ms from Redis' time: set it", apart_ms)
                    raise HandBack("this worker's clock is wrong", delay_ms=AGAIN_MS)
        if windows:
            raise HandBack("the budget's books could not be rebuilt", delay_ms=AGAIN_MS)

    async def _settled_after(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        try:
            return await proceed(attempt)
        finally:
            if attempt.windows and attempt.settled_pico is not None:
                await self._settle(attempt, attempt.settled_pico)

    async def _settle(self, attempt: Attempt, amount_pico: int) -> None:
        try:
            answer = await self._store.settle(attempt.id, amount_pico=amount_pico)
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
