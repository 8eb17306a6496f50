"""`python -m tests.chaos.money`: no window overspends and no hold leaks, whoever dies. The long form.

Prints a table, and exits 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.chaos.commands import TwinProcess, start_worker
from tests.chaos.money_jobs import ROUTING
from tests.chaos.money_report import Plan, Report
from tests.chaos.money_soak import MoneySoak
from tests.chaos.scene import Scene, settings_for
from tests.chaos.verdict import tell
from tests.servers import Valkey, scratch_folder
from worker.ledger.ledger import Ledger

SLOTS = 10  # calls that a killed worker leaves uncertain, at worst: more would leave the budgets nothing else


def main() -> int:
    """Run it once in a temporary folder, which stays when something was wrong."""
    usual = Plan(seed=random.SystemRandom().randrange(10**6))
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.money", description=__doc__)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument(
        "--worker-kills", type=int, default=usual.worker_kills, help="in the middle of a call"
    )
    parser.add_argument("--broker-kills", type=int, default=usual.broker_kills)
    parser.add_argument(
        "--audits", type=int, default=usual.audits, help="rests at which the books are compared"
    )
    parser.add_argument("--jobs-a-strike", type=int, default=usual.jobs_a_strike)
    parser.add_argument("--workers", type=int, default=usual.workers)
    parser.add_argument("--lease-s", type=float, default=3.0)
    parser.add_argument("--ledger-url", help="an empty PostgreSQL database; left out: SQLite")
    parser.add_argument("--markdown", action="store_true", help="print the table for benchmarks/RESULTS.md")
    given = parser.parse_args()
    plan = Plan(
        seed=given.seed,
        worker_kills=given.worker_kills,
        broker_kills=given.broker_kills,
        audits=given.audits,
        jobs_a_strike=given.jobs_a_strike,
        workers=given.workers,
    )
    print(f"seed {plan.seed} (again: python -m tests.chaos.money --seed {plan.seed})", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="fl-", dir=scratch_folder()))
    changes = {"lease_s": given.lease_s, "delivery_cap": 20, "slots": SLOTS}
    if given.ledger_url:
        changes["ledger_url"] = given.ledger_url
    report = asyncio.run(run(plan, folder, changes))
    return tell("chaos of money", report.rows(), report.violations, folder=folder, markdown=given.markdown)


async def run(plan: Plan, folder: Path, changes: Mapping[str, Any]) -> Report:
    """Servers, processes, strikes; `changes` are WorkerSettings'."""
    with Valkey(folder) as valkey, TwinProcess(folder) as twin:
        own = {"broker_url": valkey.broker_url, "namespace": "money", "local_url": twin.url}
        settings = settings_for(folder, **own, routing_path=ROUTING, **changes)
        Ledger(settings.ledger_url).migrate()
        async with Scene(settings) as scene:
            soak = MoneySoak(plan, scene, valkey, start=lambda settings: start_worker(settings, folder))
            return await soak.run(say=lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    sys.exit(main())
