"""An embedded fleet for the stories: one worker, the twin as provider, everything in a folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from producer_sdk import Fleet
from producer_sdk.settings import embedded_url
from worker.cli.fleet_commands import fleet_commands
from worker.embedded.demo.play import key_names
from worker.embedded.fleet import EmbeddedFleet, FleetShape
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]


def home_settings(home: Path) -> WorkerSettings:
    """Settings whose every server lives in `home`."""
    settings = WorkerSettings.from_env(home=home)
    return replace(
        settings,
        fleet=replace(settings.fleet, broker_url=embedded_url(home), producer_key=None),
        ledger_url=f"sqlite:///{home / 'ledger.sqlite'}",
        routing_path=ROOT / "routing.yaml",
        local_url=None,
        slots=50,
        lease_s=3.0,
    )


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedFleet]:
    """A fleet that is up; modules that use it are one xdist group, so that there is one."""
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        settings = home_settings(Path(folder))
        shape = FleetShape(workers=1, flower_port=None, with_twin=True, hidden=key_names(settings))
        with EmbeddedFleet(settings, commands=fleet_commands(), shape=shape) as fleet:
            yield fleet


@pytest.fixture
def fleet(embedded: EmbeddedFleet) -> Iterator[Fleet]:
    """The SDK's front door to it."""
    with Fleet(embedded.settings.fleet) as producer:
        yield producer


@pytest.fixture
def environment(embedded: EmbeddedFleet) -> dict[str, str]:
    """What a user's program sees: only FAIRLANE_HOME, beside what the machine has."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLANE_")}
    return inherited | {"FAIRLANE_HOME": str(embedded.home.path)}
