"""The ledger and the budget's books, open while a command asks them something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producer_sdk.broker import connect
from worker.budget.store import BudgetStore
from worker.ledger.ledger import Ledger
from worker.settings import WorkerSettings


@asynccontextmanager
async def open_ledger(settings: WorkerSettings) -> AsyncIterator[Ledger]:
    """The ledger; its calls raise LedgerUnavailable."""
    ledger = Ledger(settings.ledger_url, timeout_s=settings.ledger_timeout_s)
    ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def open_store(settings: WorkerSettings) -> AsyncIterator[BudgetStore]:
    """The books in Redis; its calls raise BudgetUnavailable."""
    client = connect(settings.fleet)
    try:
        yield BudgetStore(client, namespace=settings.fleet.namespace)
    finally:
        await client.aclose()
