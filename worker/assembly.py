"""Builds every part of a worker from its settings and hands each over; the only file that knows them all."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import redis.asyncio

from producer_sdk.contract import Crossing, Straight
from producer_sdk.lanes import Lanes
from worker.books import Books, Reaper
from worker.budget.catalogue import rate_cards
from worker.budget.step import HoldBudget
from worker.budget.store import BudgetStore
from worker.cache.step import AnswerFromCache
from worker.cache.store import ExactCache
from worker.fallback.step import CallWithFallback
from worker.job_run import ProceedJob
from worker.ledger.ledger import Ledger
from worker.ledger.step import JournalAttempt, RecordJob
from worker.pipeline import attempt_pipeline, job_pipeline
from worker.policy.step import ApplyPolicy, EndStopped
from worker.providers.client import open_client
from worker.providers.step import CallProvider
from worker.retries.step import CapRetries
from worker.retries.store import RetryBudget
from worker.routing.step import PlanRoute
from worker.routing_file import RoutingFile
from worker.routing_load import load
from worker.safety.step import ScreenContent
from worker.settings import WorkerSettings, provider_keys


@dataclass
class Assembly:
    """Every part of one worker process."""

    settings: WorkerSettings
    routing: RoutingFile
    redis: redis.asyncio.Redis
    lanes: Lanes
    ledger: Ledger
    reaper: Reaper
    pipeline: ProceedJob
    http: httpx.AsyncClient

    async def close(self) -> None:
        """Give back every connection and thread."""
        await self.http.aclose()
        await self.ledger.close()
        await self.redis.aclose()


async def assemble(
    settings: WorkerSettings,
    *,
    crossing: Crossing | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Assembly:
    """Build a worker's parts. `transport` replaces the network (benchmarks); `crossing` watches every boundary.

    Raises ConfigError for a wrong routing.yaml, LedgerUnavailable when the database does not answer.
    """
    crossing = crossing or Straight()
    routing = load(settings.routing_path)
    connection = open_redis(settings)
    namespace = settings.fleet.namespace
    lanes = Lanes(connection, namespace=namespace, crossing=crossing)
    ledger = Ledger(settings.ledger_url, timeout_s=settings.ledger_timeout_s, crossing=crossing)
    ledger.start()
    store = BudgetStore(connection, namespace=namespace, crossing=crossing)
    books = Books(ledger=ledger, store=store)
    retry_budget = RetryBudget(connection, namespace=namespace, crossing=crossing)
    cards, unpriced = rate_cards(routing.deployments(), cache_dir=settings.home)
    keys = provider_keys({p.name: p.key_env for p in routing.providers.values() if p.key_env})
    http = open_client(settings, transport=transport)
    attempt = attempt_pipeline(
        [
            HoldBudget(store=store, rebuild=books.rebuild, mirrored=ledger.mirrored),
            JournalAttempt(ledger),
            CallProvider(client=http, keys=keys, local_url=settings.local_url, crossing=crossing),
        ]
    )
    pipeline = job_pipeline(
        [
            RecordJob(ledger),
            EndStopped(),
            ApplyPolicy(),
            CapRetries(retry_budget),
            ScreenContent(fence_key=fence_key(settings)),
            AnswerFromCache(ExactCache(connection, namespace=namespace, crossing=crossing)),
            PlanRoute(cards=cards, missing=missing(routing, settings, unpriced)),
            CallWithFallback(proceed_attempt=attempt, retry_budget=retry_budget),
        ]
    )
    reaper = Reaper(ledger=ledger, store=store, lanes=lanes, books=books)
    return Assembly(settings, routing, connection, lanes, ledger, reaper, pipeline, http)
