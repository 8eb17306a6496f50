"""`fairlane doctor books`: the windows in Redis beside the ledger and the journal, difference by difference."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from producer_sdk.contract import to_usd
from producer_sdk.settings import redis_url
from worker.books import HORIZON
from worker.budget.store import BudgetStore
from worker.cli.checks import Check
from worker.errors import BudgetUnavailable, LedgerUnavailable
from worker.job_run import utc_now
from worker.ledger.ledger import Ledger
from worker.settings import WorkerSettings

LOOKS = 3  # what is being settled right now differs for a moment
BETWEEN_S = 1.0
MOST_SHOWN = 20
WINDOWS_A_CALL = 500


@dataclass(frozen=True)
class Difference:
    """One window of which the two say different amounts: (settled, held) in pico-dollars."""

    window: str
    redis: tuple[int, int]
    ledger: tuple[int, int]

    def said(self) -> str:
        """In words."""
        settled, held = (
            f"{_usd(a)} in Redis, {_usd(b)} in the ledger"
            for a, b in zip(self.redis, self.ledger, strict=True)
        )
        return f"spent: {settled}; held: {held}"


def book_checks(settings: WorkerSettings) -> Iterator[Check]:
    """One line a window that differs, or one that says how many agree."""
    try:
        windows, differences = asyncio.run(compared(settings))
    except (LedgerUnavailable, BudgetUnavailable, redis.RedisError) as error:
        yield Check(
            "books", "note", f"they cannot be compared without broker and ledger ({type(error).__name__})"
        )
        return
    if windows is None:
        yield Check(
            "books", "note", "Redis has none: they are built from the ledger before anything is admitted"
        )
    elif not differences:
        yield Check("books", "ok", f"{windows} windows in Redis agree with the ledger and the journal")
    for difference in differences[:MOST_SHOWN]:
        said = f"{difference.said()}: the workers' reaper mends it within a lease or two, see docs/money.md"
        yield Check(f"books {difference.window}", "bad", said)
    if len(differences) > MOST_SHOWN:
        yield Check("books", "bad", f"{len(differences) - MOST_SHOWN} windows more differ")


async def compared(settings: WorkerSettings) -> tuple[int | None, list[Difference]]:
    """How many windows there are (None: no books), and those that differ at every one of several looks."""
    client = redis.asyncio.Redis.from_url(redis_url(settings.fleet.broker_url), socket_timeout=5.0)
    ledger = Ledger(settings.ledger_url, timeout_s=settings.ledger_timeout_s)
    ledger.start()
    try:
        store = BudgetStore(client, namespace=settings.fleet.namespace)
        windows, found = await _look(store, ledger)
        for _ in range(LOOKS - 1):
            if not found:
                break
            await asyncio.sleep(BETWEEN_S)
            windows, again = await _look(store, ledger)
            found = {name: difference for name, difference in again.items() if name in found}
    finally:
        await ledger.close()
        await client.aclose()
    return windows, sorted(found.values(), key=lambda difference: difference.window)


async def _look(store: BudgetStore, ledger: Ledger) -> tuple[int | None, dict[str, Difference]]:
    sums = await ledger.window_sums(since=utc_now() - HORIZON)
    held: Counter[str] = Counter()
    for attempt in sums.holds:
        held.update(dict.fromkeys(attempt.windows, attempt.worst_pico))
    names = sorted({*sums.settled, *held})
    if (await store.standing()).epoch is None:
        return None, {}
    standing: dict[str, Any] = {}
    for at in range(0, len(names), WINDOWS_A_CALL):
        standing |= (await store.standing(names[at : at + WINDOWS_A_CALL])).windows
    each = (
        Difference(name, standing.get(name, (0, 0)), (sums.settled.get(name, 0), held[name]))
        for name in names
    )
    return len(names), {one.window: one for one in each if one.redis != one.ledger}


def _usd(pico: int) -> str:
    return f"${to_usd(pico).normalize():f}"
