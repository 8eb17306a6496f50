"""The command lines of a fleet's processes: what `up` and `demo` start, and what `worker` and `flower` become."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from worker.app import command, environment
from worker.embedded.fleet import Commands
from worker.ledger.ledger import Ledger
from worker.settings import WorkerSettings


def flower_command(port: int, *, address: str = "127.0.0.1") -> list[str]:
    """Flower over the fleet's own Celery app; it serves pages and /metrics."""
    flower = [sys.executable, "-m", "celery", "-A", "worker.main", "flower"]
    return [
        *flower,
        f"--port={port}",
        f"--address={address}",
        "--tasks_columns=name,uuid,state,args,kwargs,runtime,worker",
    ]


def worker_command(settings: WorkerSettings) -> list[str]:
    """One worker process."""
    return command(settings)


def migrate(ledger_url: str) -> None:
    """Bring the ledger's tables up to date. Raises LedgerUnavailable."""
    Ledger(ledger_url).migrate()


def fleet_commands() -> Commands:
    """What the embedded fleet starts."""
    return Commands(worker=worker_command, flower=flower_command, environment=environment, migrate=migrate)


def become(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Replace this process, so that signals and exit codes are the started program's own."""
    sys.stdout.flush()
    os.execve(argv[0], list(argv), dict(environ))  # noqa: S606 - the fleet's own commands
