"""A budget store on a real Valkey, and windows of a given size."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import redis.asyncio

from producer_sdk.contract import Job, Message
from worker.budget.rules import WindowLimit
from worker.budget.store import BudgetStore
from worker.job_run import Attempt, JobRun, Lease, PlannedCall
from worker.rate_card import RateCard
from worker.routing_file import Deployment, Provider, RoutingFile, TaskRule, Tenant, Tier

Window = Callable[..., WindowLimit]


@pytest.fixture
async def store(client: redis.asyncio.Redis, namespace: str) -> BudgetStore:
    """A store whose books are at epoch 1 and empty."""
    new = BudgetStore(client, namespace=namespace)
    assert await new.install(epoch=1, settled={}, holds=[])
    return new


@pytest.fixture
def window() -> Window:
    """Makes a window of a limit in pico-dollars."""

    def make(limit_pico: int, name: str = "t:acme:d:2026-11-23") -> WindowLimit:
        return WindowLimit(name, limit_pico, name[-10:], datetime(2026, 11, 24, tzinfo=UTC))

    return make


@pytest.fixture
def attempt_of() -> Callable[..., Attempt]:
    """Makes an attempt of a tenant with a daily budget, for a call that may cost so much."""

    def make(highest_pico: int, *, budget_usd: str | None = "0.0000000001", zone: str = "UTC") -> Attempt:
        tier = Tier("free", daily_budget_usd=None if budget_usd is None else Decimal(budget_usd))
        deployment = Deployment("twin/small", Provider("twin", "openai", "http://twin"), "small", 8000, 1000)
        card = RateCard.flat("small", "routing.yaml", input=1, output=1, cache_read=1, cache_write=1)
        job_run = JobRun(
            job=Job(tenant="acme", task="classify_intent", messages=[Message(role="user", content="hello")]),
            lease=Lease("tag", confirmed_until=float("inf")),
            routing=RoutingFile("1", {}, {}, {}, {}, {}),
            tenant=Tenant("acme", tier, zone),
            task=TaskRule("classify_intent", "small"),
        )
        call = PlannedCall(deployment, "small", card, highest_pico)
        return Attempt(job_run=job_run, call=call, number=1, timeout_s=10)

    return make
