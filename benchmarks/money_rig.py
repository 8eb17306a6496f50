"""What the benchmarks of money need: a ledger's database in a folder, and a worker's settings on it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from producer_sdk.settings import FleetSettings
from tests.servers import Postgres, Valkey, scratch_folder
from worker.ledger.ledger import Ledger
from worker.settings import WorkerSettings

Kind = Literal["SQLite", "PostgreSQL"]
DISK = Path("/tmp")


@contextmanager
def scratch(*, where: Path | None = None) -> Iterator[Path]:
    """A folder of its own, in memory where there is room for it, or where it is told to be."""
    with tempfile.TemporaryDirectory(prefix="fl-", dir=where or scratch_folder()) as name:
        yield Path(name)


@contextmanager
def database(kind: Kind, folder: Path, *, fsync: bool = True) -> Iterator[str]:
    """The URL of a new, migrated ledger. `fsync` is PostgreSQL's own setting; SQLite's is the ledger's, FULL."""
    if kind == "SQLite":
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        Ledger(url).migrate()
        yield url
        return
    with Postgres(folder) as postgres:
        postgres.server.psql(f"ALTER SYSTEM SET fsync = {'on' if fsync else 'off'};")
        postgres.server.psql("SELECT pg_reload_conf();")
        url = postgres.new_database()
        Ledger(url).migrate()
        yield url


def filesystem(path: Path) -> str:
    """The kind of file system that a path lies on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(point, kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(around, key=lambda mount: len(mount[0]))[1]


def worker_settings(server: Valkey, *, ledger_url: str, routing: Path, home: Path) -> WorkerSettings:
    """A worker on this Valkey and this ledger."""
    fleet = FleetSettings(broker_url=server.broker_url)
    return WorkerSettings(
        fleet=fleet, ledger_url=ledger_url, routing_path=routing, home=home, worker_name="bench"
    )
