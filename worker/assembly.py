"""Builds every part of a worker from its settings and hands each over; the only file that knows them all."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import redis.asyncio

from producer_sdk.contract import Crossing, Straight
from producer_sdk.contract.control import (
    CONFIRM,
    RELEASE,
    RESERVE,
    USAGE,
    ConfirmBatches,
    ReleaseBatches,
    ReserveBatch,
    UsageQuestion,
)
from producer_sdk.lanes import Lanes
from producer_sdk.settings import redis_url
from worker.addresses import refused_host
from worker.books import Books, Reaper
from worker.budget.batches import HoldBatches
from worker.budget.catalogue import rate_cards
from worker.budget.run_tree import RunTree
from worker.budget.step import HoldBudget
from worker.budget.store import BudgetStore
from worker.cache.step import AnswerFromCache
from worker.cache.store import ExactCache
from worker.control import AnswerControl, Answering
from worker.errors import ConfigError
from worker.fallback.step import CallWithFallback
from worker.gathering import GatheringRedis
from worker.health.step import AvoidUnhealthy, WatchDeployment
from worker.health.store import HealthStore
from worker.job_run import JobStep, ProceedJob
from worker.lane_limits import lane_limits
from worker.ledger.ledger import Ledger
from worker.ledger.report import ReportUsage
from worker.ledger.step import JournalAttempt, RecordJob
from worker.orphans import Orphans
from worker.outputs.step import CheckAnswer, StateForm
from worker.pipeline import attempt_pipeline, job_pipeline, pricing_pipeline
from worker.policy.step import ApplyPolicy, EndStopped
from worker.providers.client import Clients, called_at
from worker.providers.keys import Keys, keyless
from worker.providers.served import not_served
from worker.providers.step import CallProvider
from worker.rate_card import RateCard
from worker.reload.follow import FollowRouting, Routed
from worker.retries.step import CapRetries, RememberFailures
from worker.retries.store import RetryBudget
from worker.routing import vocabularies
from worker.routing.step import PlanRoute, Speeds
from worker.routing.tokens import Count
from worker.routing_file import RoutingFile, Tokenizer
from worker.routing_load import Source, load_source
from worker.runs.step import CapRun
from worker.runs.store import Runs
from worker.safety.step import ScreenContent
from worker.settings import WorkerSettings, key_variable
from worker.streaming.step import StreamAnswer, StreamText
from worker.streaming.streams import Streams
from worker.telemetry.signals import Signals

logger = logging.getLogger(__name__)


@dataclass
class Assembly:
    """Every part of one worker process."""

    settings: WorkerSettings
    redis: redis.asyncio.Redis
    lanes: Lanes
    ledger: Ledger
    reaper: Reaper
    orphans: Orphans
    follow: FollowRouting
    clients: Clients
    signals: Signals
    health: HealthStore

    @property
    def routed(self) -> Routed:
        """What new jobs begin with."""
        return self.follow.current

    async def close(self) -> None:
        """Give back every connection and thread."""
        self.signals.close()
        await self.clients.close()
        await self.follow.close()
        await self.ledger.close()
        await self.redis.aclose()


@dataclass(frozen=True)
class Stores:
    """What a worker keeps outside of its process: in Redis, and in the ledger's database."""

    redis: redis.asyncio.Redis
    lanes: Lanes
    ledger: Ledger
    budget: BudgetStore
    health: HealthStore
    retry_budget: RetryBudget
    runs: Runs
    cache: ExactCache


def open_stores(settings: WorkerSettings, crossing: Crossing, signals: Signals) -> Stores:
    """Every store over one set of connections; what they see goes to `signals`.

    Raises LedgerUnavailable when the database does not answer.
    """
    connection, namespace = open_redis(settings), settings.fleet.namespace
    shards, lease_s = settings.fleet.lane_shards, settings.lease_s
    ledger = Ledger(settings.ledger_url, timeout_s=settings.ledger_timeout_s, crossing=crossing)
    ledger.start()
    return Stores(
        redis=connection,
        lanes=Lanes(connection, namespace=namespace, shards=shards, crossing=crossing),
        ledger=ledger,
        budget=BudgetStore(connection, namespace=namespace, crossing=crossing),
        health=HealthStore(
            connection, namespace=namespace, lease_s=lease_s, crossing=crossing, watch=signals.deployments
        ),
        retry_budget=RetryBudget(connection, namespace=namespace, crossing=crossing, told=signals.retry),
        runs=Runs(connection, namespace=namespace, crossing=crossing),
        cache=ExactCache(connection, namespace=namespace, crossing=crossing),
    )


MOST_REDIS_CONNECTIONS = 32


def open_redis(settings: WorkerSettings) -> redis.asyncio.Redis:
    """The worker's connections to the broker: few, shared, with a timeout on everything."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        redis_url(settings.fleet.broker_url),
        max_connections=MOST_REDIS_CONNECTIONS,
        timeout=20,
        socket_timeout=10,
        socket_connect_timeout=5,
        health_check_interval=30,
    )
    return GatheringRedis(connection_pool=pool)


def fence_key(settings: WorkerSettings) -> bytes:
    """The secret behind the fences' markers: the same on every worker of a signed fleet, else this process's own."""
    key = settings.fleet.producer_key
    return hashlib.sha256(b"fence:" + key).digest() if key else secrets.token_bytes(32)


def unusable(routing: RoutingFile, settings: WorkerSettings, unpriced: Mapping[str, str]) -> dict[str, str]:
    """Why each deployment that cannot be called, whoever has a key, is left out of every plan."""
    reasons = dict(unpriced)
    for deployment in routing.deployments().values():
        provider = deployment.provider
        if not provider.base_url and not settings.local_url:
            reasons[deployment.name] = f"no {provider.base_url_env}"
        elif not provider.allow_link_local and refused_host(called_at(provider, settings.local_url)):
            reasons[deployment.name] = "its address is link-local or a cloud's metadata service"
    return reasons


async def never_called(
    settings: WorkerSettings, routing: RoutingFile, unpriced: Mapping[str, str], http: httpx.AsyncClient
) -> dict[str, str]:
    """The same, with what the server at FAIRLANE_LOCAL_URL does not have."""
    return unusable(routing, settings, unpriced) | await not_served(http, routing, settings.local_url)


async def plan_route(
    settings: WorkerSettings, routing: RoutingFile, speeds: Speeds, keys: Keys, http: httpx.AsyncClient
) -> tuple[PlanRoute, Mapping[str, RateCard]]:
    """The step that plans, and the prices that it plans with. Raises ConfigError."""
    cards, unpriced = await asyncio.to_thread(rate_cards, routing.deployments(), cache_dir=settings.home)
    missing = await never_called(settings, routing, unpriced, http)
    counts = await load_counts(routing, keyless(routing, keys) | missing)
    plan = PlanRoute(cards=cards, missing=missing, counts=counts, speeds=speeds, why_no_key=keys.why_none)
    return plan, cards


def _hold_budget(stores: Stores, books: Books, run_tree: RunTree, signals: Signals) -> HoldBudget:
    """The step that reserves and settles."""
    return HoldBudget(
        store=stores.budget,
        rebuild=books.rebuild,
        mirrored=stores.ledger.mirrored,
        runs=run_tree.runs,
        warn=signals.soft_limit,
    )


def _answers(batches: HoldBatches, usage: ReportUsage) -> dict[str, Answering]:
    """Who answers what is asked of the fleet itself."""
    return {
        RESERVE: (ReserveBatch, batches.reserve),
        CONFIRM: (ConfirmBatches, batches.confirm),
        RELEASE: (ReleaseBatches, batches.release),
        USAGE: (UsageQuestion, usage.answer),
    }


def _guards(stores: Stores, run_tree: RunTree) -> list[JobStep]:
    """The steps that stop whoever repeats work without end."""
    retry_budget = stores.retry_budget
    cap_run = CapRun(stores.runs, above=run_tree.runs, history=stores.ledger.run_history)
    return [RememberFailures(retry_budget), cap_run, CapRetries(retry_budget)]


def _caller(
    settings: WorkerSettings,
    http: httpx.AsyncClient,
    cards: Mapping[str, RateCard],
    keys: Keys,
    crossing: Crossing,
) -> CallProvider:
    """The step that calls."""
    return CallProvider(client=http, keys=keys, cards=cards, local_url=settings.local_url, crossing=crossing)


async def load_counts(routing: RoutingFile, missing: Mapping[str, str]) -> dict[Tokenizer, Count]:
    """The vocabularies of the deployments that can be called. Those that are not installed are said in the log."""
    usable = [d for name, d in routing.deployments().items() if name not in missing]
    uncounted = vocabularies.uncounted(usable)
    if uncounted:
        logger.warning(vocabularies.without_extra(uncounted))
    return await asyncio.to_thread(vocabularies.load, usable)


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
    signals, clients = Signals(), Clients(settings, transport=transport)
    stores = open_stores(settings, crossing, signals)
    lanes, ledger = stores.lanes, stores.ledger
    books = Books(ledger=ledger, store=stores.budget, claim_s=settings.lease_s)
    parts = Parts(settings, stores, crossing, books, RunTree(ledger.ancestors), signals, clients)
    follow = FollowRouting(
        fleet=settings.fleet.namespace,
        worker=settings.worker_name,
        ledger=ledger,
        build=parts.routed,
        set_limits=lambda routing: lanes.set_limits(lane_limits(routing)),
        signals=signals,
    )
    try:
        await follow.start(settings.routing_path)
    except ConfigError:
        await clients.close()
        await ledger.close()
        await stores.redis.aclose()
        raise
    reaper = Reaper(ledger=ledger, store=stores.budget, lanes=lanes, books=books, grace_s=settings.lease_s)
    ttl_s = settings.fleet.result_ttl_s
    orphans = Orphans(
        ledger=ledger, lanes=lanes, store=stores.budget, lease_s=settings.lease_s, result_ttl_s=ttl_s
    )
    return Assembly(
        settings, stores.redis, lanes, ledger, reaper, orphans, follow, clients, signals, stores.health
    )


class Parts:
    """What stays when routing.yaml changes; `routed` builds the rest around it."""

    def __init__(
        self,
        settings: WorkerSettings,
        stores: Stores,
        crossing: Crossing,
        books: Books,
        run_tree: RunTree,
        signals: Signals,
        clients: Clients,
    ) -> None:
        self._settings, self._stores, self._crossing = settings, stores, crossing
        self._books, self._run_tree, self._clients = books, run_tree, clients
        self._keys = Keys(key_variable, in_use=settings.uses_keys)
        self._watch, self._streams = signals.deployments, Streams(stores.lanes)
        self._hold_budget = _hold_budget(stores, books, run_tree, signals)
        self._screen, self._check = ScreenContent(fence_key=fence_key(settings)), CheckAnswer()

    async def routed(self, source: Source) -> Routed:
        """Everything that depends on the file, at this version. Raises ConfigError."""
        settings, stores = self._settings, self._stores
        routing, whole = await asyncio.to_thread(load_source, source)
        http = self._clients.of(routing)
        plan, cards = await plan_route(settings, routing, stores.health.speeds, self._keys, http)
        attempt = attempt_pipeline(
            [
                WatchDeployment(stores.health, watch=self._watch),
                self._hold_budget,
                JournalAttempt(stores.ledger),
                self._check,
                StreamText(self._streams),
                _caller(settings, http, cards, self._keys, self._crossing),
            ]
        )
        fallback = CallWithFallback(
            proceed_attempt=attempt, retry_budget=stores.retry_budget, follow_up=plan.followed_up
        )
        return Routed(whole, routing, self._job_pipeline(plan, fallback))

    def _job_pipeline(self, plan: PlanRoute, fallback: CallWithFallback) -> ProceedJob:
        """Every step of a job around its fallback."""
        stores, run_tree, screen = self._stores, self._run_tree, self._screen
        policy, form = ApplyPolicy(), StateForm()
        highest = pricing_pipeline([policy, screen, form, plan.untimed()])
        batches = HoldBatches(
            store=stores.budget,
            rows=stores.ledger,
            rebuild=self._books.rebuild,
            highest=highest,
            runs=run_tree.runs,
        )
        return job_pipeline(
            [
                StreamAnswer(self._streams),
                RecordJob(stores.ledger),
                EndStopped(),
                AnswerControl(_answers(batches, ReportUsage(stores.ledger))),
                policy,
                *_guards(stores, run_tree),
                screen,
                form,
                AnswerFromCache(stores.cache),
                plan,
                AvoidUnhealthy(stores.health, renewed=self._keys.renewed),
                fallback,
            ]
        )
