"""What a command asks while it runs: the ledger, the budget's books, and the server at FAIRLANE_LOCAL_URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producer_sdk.broker import connect
from worker.budget.store import BudgetStore
from worker.ledger.ledger import Ledger
from worker.providers.client import open_client
from worker.providers.served import not_served
from worker.routing_file import RoutingFile
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


async def ask_what_is_served(settings: WorkerSettings, routing: RoutingFile) -> dict[str, str]:
    """Deployments whose model the server at FAIRLANE_LOCAL_URL does not have, as a worker asks it when it starts."""
    async with open_client(settings, routing) as client:
        return await not_served(client, routing, settings.local_url)
