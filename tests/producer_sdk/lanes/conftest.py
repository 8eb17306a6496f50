"""A hall of lanes of the test's own."""

from __future__ import annotations

import pytest
import redis.asyncio

from producer_sdk.lanes.keys import RESULT_PREFIX
from tests.producer_sdk.lanes.hall import Hall


@pytest.fixture
async def hall(client: redis.asyncio.Redis, namespace: str) -> Hall:
    """Lanes past their first lease, on the shared Valkey."""
    async for key in client.scan_iter(RESULT_PREFIX + "*"):  # Celery's keys know no namespace
        await client.delete(key)
    return await Hall(client, namespace).open()
