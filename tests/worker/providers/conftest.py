"""A twin on a port of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from worker.embedded.twin import Twin
from worker.rate_card import RateCard
from worker.routing_file import Dialect


@pytest.fixture
async def twin() -> AsyncIterator[Twin]:
    """A twin over real HTTP, in this process so that its books can be looked into."""
    async with Twin() as server:
        yield server


@pytest.fixture(params=["openai", "anthropic", "gemini"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Every wire format."""
    return request.param


@pytest.fixture
def rate_card() -> RateCard:
    """Prices of a model that the twin does not have."""
    return RateCard.flat("m", "test", 1, 1, 1, 1)
