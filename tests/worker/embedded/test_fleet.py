"""The one-command fleet before it starts anything; what it does once it is up is told in tests/stories."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from worker.cli.fleet_commands import fleet_commands
from worker.embedded.fleet import EmbeddedFleet, FleetShape
from worker.errors import FleetDown
from worker.settings import WorkerSettings


def test_a_port_for_flower_that_is_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shape = FleetShape(workers=1, flower_port=port)
        fleet = EmbeddedFleet(
            WorkerSettings.from_env(home=tmp_path / "home"), commands=fleet_commands(), shape=shape
        )
        with pytest.raises(FleetDown, match=f"port {port} is in use: .*--flower-port"), fleet:
            pass
    assert not (tmp_path / "home" / "ledger.sqlite").exists()
