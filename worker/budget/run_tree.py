"""RunTree: the runs on whose budgets a job draws, its own and those above it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from producer_sdk.contract import Job

KNOWN_FOR_S = 30.0
MOST_KNOWN = 10_000


class RunTree:
    """Asks the ledger who is above a run, and remembers it for half a minute."""

    def __init__(self, read: Callable[[str, str, str | None], Awaitable[tuple[str, ...]]]) -> None:
        """`read`: the runs above a tenant's run, given the parent that its job names."""
        self._read = read
        self._known: dict[tuple[str, str, str | None], tuple[float, tuple[str, ...]]] = {}

    async def runs(self, job: Job) -> tuple[str, ...]:
        """The job's run first, then its parent and so on; none for a job of no run. Raises LedgerUnavailable."""
        if job.run_id is None:
            return (job.parent_run_id,) if job.parent_run_id else ()
        key, now = (job.tenant, job.run_id, job.parent_run_id), time.monotonic()
        until, above = self._known.get(key, (0.0, ()))
        if now >= until:
            above = await self._read(*key)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = (now + KNOWN_FOR_S, above)
        return (job.run_id, *above)
