"""What the chains' tests share."""

from __future__ import annotations

import pytest
import redis.asyncio

from worker.retries.store import RetryBudget


@pytest.fixture
def retry_budget(client: redis.asyncio.Redis, namespace: str) -> RetryBudget:
    return RetryBudget(client, namespace=namespace)
