"""`python -m tests.chaos`: the long form. Prints a table, and exits 1 when a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.commands import TwinProcess, start_worker
from tests.chaos.scene import Scene, settings_for
from tests.chaos.soak import Plan, Report, Soak
from tests.servers import Valkey
from worker.ledger.ledger import Ledger


def main() -> int:
    """Run one soak in a temporary folder, which stays when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--worker-kills", type=int, default=30)
    parser.add_argument("--broker-kills", type=int, default=3)
    parser.add_argument("--worker-pauses", type=int, default=3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--lease-s", type=float, default=3.0)
    parser.add_argument("--ledger-url", help="an empty PostgreSQL database; left out: SQLite")
    parser.add_argument("--markdown", action="store_true", help="print the table for benchmarks/RESULTS.md")
    given = parser.parse_args()
    plan = Plan(
        seed=given.seed,
        jobs=given.jobs,
        worker_kills=given.worker_kills,
        broker_kills=given.broker_kills,
        worker_pauses=given.worker_pauses,
        workers=given.workers,
    )
    print(f"seed {plan.seed} (again: python -m tests.chaos --seed {plan.seed})", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))
    report = asyncio.run(run(plan, folder, lease_s=given.lease_s, ledger_url=given.ledger_url))
    print_table(report, markdown=given.markdown)
    if not report.violations:
        shutil.rmtree(folder)
        return 0
    for violation in report.violations:
        print(f"BROKEN: {violation}")
    print(f"the logs are in {folder}")
    return 1


async def run(plan: Plan, folder: Path, *, lease_s: float, ledger_url: str | None) -> Report:
    """Servers, processes, kills."""
    with Valkey(folder) as valkey, TwinProcess(folder) as twin:
        changes = {"lease_s": lease_s, "local_url": twin.url, "slots": 30}
        if ledger_url:
            changes["ledger_url"] = ledger_url
        settings = settings_for(folder, broker_url=valkey.broker_url, namespace="chaos", **changes)
        Ledger(settings.ledger_url).migrate()
        async with Scene(settings) as scene:
            soak = Soak(plan, scene, valkey, start=lambda settings: start_worker(settings, folder))
            return await soak.run(say=lambda line: print(line, file=sys.stderr))


def print_table(report: Report, *, markdown: bool) -> None:
    """Two columns."""
    if markdown:
        print("| chaos | |\n|---|---|")
    for name, value in report.rows():
        print(f"| {name} | {value} |" if markdown else f"{name:<44} {value}")


if __name__ == "__main__":
    sys.exit(main())
