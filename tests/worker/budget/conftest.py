"""A budget store on a real Valkey, and windows of a given size."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis.asyncio

from worker.budget.rules import WindowLimit
from worker.budget.store import BudgetStore

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
