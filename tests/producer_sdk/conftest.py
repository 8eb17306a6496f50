"""Fleets on the shared Valkey, each test in a namespace of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from producer_sdk import AsyncFleet, Fleet, FleetSettings
from tests.producer_sdk.fake_worker import FakeWorker, working
from tests.servers import Valkey


@pytest.fixture
def fleet_settings(valkey: Valkey, namespace: str) -> FleetSettings:
    return FleetSettings(broker_url=valkey.broker_url, namespace=namespace, result_ttl_s=60)


@pytest.fixture
def fleet(fleet_settings: FleetSettings) -> Iterator[Fleet]:
    with Fleet(fleet_settings) as fleet:
        yield fleet


@pytest.fixture
async def async_fleet(fleet_settings: FleetSettings) -> AsyncIterator[AsyncFleet]:
    async with AsyncFleet(fleet_settings) as fleet:
        yield fleet


@pytest.fixture
def worker(valkey: Valkey, namespace: str) -> Iterator[FakeWorker]:
    with working(valkey, namespace) as worker:
        yield worker
