"""`fairlane doctor books`: the windows in Redis beside the ledger and the journal, difference by difference."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from producer_sdk.contract import usd_text
from worker.books import HORIZON
from worker.budget.store import BudgetStore
from worker.cli.budget_windows import all_windows
from worker.cli.checks import Check
from worker.cli.opened import open_ledger, open_store
from worker.errors import BudgetUnavailable, ConfigError, LedgerUnavailable
from worker.job_run import utc_now
from worker.ledger.ledger import Ledger
from worker.routing_load import load
from worker.settings import WorkerSettings

LOOKS = 3  # what is being settled right now differs for a moment
BETWEEN_S = 1.0
MOST_SHOWN = 20


@dataclass(frozen=True)
class Difference:
    """One window of which the two say different amounts: (settled, held) in pico-dollars."""

    window: str
    redis: tuple[int, int]
    ledger: tuple[int, int]

    def said(self) -> str:
        """In words."""
        settled, held = (
            f"${usd_text(a)} in Redis, ${usd_text(b)} in the ledger"
            for a, b in zip(self.redis, self.ledger, strict=True)
        )
        return f"spent: {settled}; held: {held}"


def book_checks(settings: WorkerSettings) -> Iterator[Check]:
    """One line a window that differs, or one that says how many agree."""
    try:
        windows, differences = asyncio.run(compared(settings))
    except (LedgerUnavailable, BudgetUnavailable) as error:
        yield Check(
            "books", "note", f"they cannot be compared without broker and ledger ({type(error).__name__})"
        )
        return
    except ConfigError as error:
        yield Check("books", "note", f"they cannot be compared while routing.yaml is wrong: {error}")
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
    """How many windows have been spent from (None: no books), and those that differ at every one of several looks."""
    limited = [window.name for window in all_windows(load(settings.routing_path))]
    async with open_ledger(settings) as ledger, open_store(settings) as store:
        windows, found = await _look(store, ledger, limited)
        for _ in range(LOOKS - 1):
            if not found:
                break
            await asyncio.sleep(BETWEEN_S)
            windows, again = await _look(store, ledger, limited)
            found = {name: difference for name, difference in again.items() if name in found}
    return windows, sorted(found.values(), key=lambda difference: difference.window)


async def _look(
    store: BudgetStore, ledger: Ledger, limited: Sequence[str]
) -> tuple[int | None, dict[str, Difference]]:
    """What the ledger knows of, and what is limited now: there Redis may hold what no row speaks of."""
    sums = await ledger.window_sums(since=utc_now() - HORIZON)
    held: Counter[str] = Counter()
    for attempt in sums.holds:
        held.update(dict.fromkeys(attempt.windows, attempt.worst_pico))
    for batch in sums.batches:
        held.update(dict.fromkeys(batch.windows, batch.left_pico))
    names = sorted({*sums.settled, *held, *limited})
    standing = await store.standing(names)
    if standing.epoch is None:
        return None, {}
    each = [
        Difference(name, standing.windows.get(name, (0, 0)), (sums.settled.get(name, 0), held[name]))
        for name in names
    ]
    count = sum(one.redis != (0, 0) or one.ledger != (0, 0) for one in each)
    return count, {one.window: one for one in each if one.redis != one.ledger}
