"""Jobs that had begun and that the lanes know nothing of any more: a flushed broker's, whose workers died with it.

A live worker puts back by itself what it holds (worker.consumer); these have nobody but their row in SQL.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

import redis.exceptions

from producer_sdk.contract.envelope import BadMessage, LaneEntry, entry_of
from producer_sdk.lanes import Lanes
from worker.budget.store import BudgetStore
from worker.errors import BudgetUnavailable, LedgerUnavailable
from worker.job_run import utc_now
from worker.ledger.ledger import Ledger

PAGE = 200
MOST_PAGES = 50
logger = logging.getLogger(__name__)


class Orphans:
    """Puts such jobs back into their lanes, in bounded rounds; one worker at a time, to save work."""

    def __init__(
        self, *, ledger: Ledger, lanes: Lanes, store: BudgetStore, lease_s: float, result_ttl_s: int
    ) -> None:
        self._ledger = ledger
        self._lanes = lanes
        self._store = store
        self._lease_s = lease_s
        self._result_ttl_s = result_ttl_s

    async def tick(self) -> None:
        """One round each lease. Call it only while jobs may be swept: live workers have put theirs back by then."""
        try:
            if await self._store.claim("orphans", for_ms=int(1000 * self._lease_s)):
                await self.put_back()
        except (BudgetUnavailable, LedgerUnavailable, redis.exceptions.RedisError) as error:
            logger.warning("looking for jobs that the lanes have lost was cut short: %s", error)

    async def put_back(self) -> int:
        """One round; how many were put back."""
        before, after, total = utc_now() - timedelta(seconds=self._lease_s), None, 0
        for _ in range(MOST_PAGES):
            page = await self._ledger.open_jobs(
                fleet=self._lanes.keys.namespace, created_before=before, limit=PAGE, after=after
            )
            total += await self._put_back({job.job_id: job.message for job in page}) if page else 0
            if len(page) < PAGE:
                break
            after = page[-1].job_id
        if total:
            logger.warning("%d jobs that the lanes had lost are back in them", total)
        return total

    async def _put_back(self, messages: dict[UUID, bytes]) -> int:
        states = await self._lanes.states([str(job_id) for job_id in messages])
        # asked after the states: a server that was flushed since the sweep says so, and live workers come first
        if (await self._lanes.beat([], lease_ms=int(1000 * self._lease_s))).held_off:
            return 0
        lost = [
            entry for state in states if state.state == "unknown" for entry in _entry(messages, state.job_id)
        ]
        replies = await self._lanes.put(lost, ttl_s=self._result_ttl_s, inside=True) if lost else []
        return sum(reply.outcome == "accepted" for reply in replies)


def _entry(messages: dict[UUID, bytes], job_id: str) -> list[LaneEntry]:
    try:
        return [entry_of(messages[UUID(job_id)])]
    except BadMessage:
        return []
