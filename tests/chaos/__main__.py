"""`python -m tests.chaos`: the long form. Prints a table, and exits 1 when a promise was broken."""

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
from tests.chaos.scene import Scene, settings_for
from tests.chaos.soak import Plan, Report, Soak
from tests.chaos.verdict import tell
from tests.servers import Valkey, scratch_folder
from worker.ledger.ledger import Ledger


def main() -> int:
    """Run one soak in a temporary folder, which stays when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--jobs", type=int, default=6000)
    parser.add_argument("--worker-kills", type=int, default=250)
    parser.add_argument("--held-reply-kills", type=int, default=50, help="between a take and its reply")
    parser.add_argument("--broker-kills", type=int, default=20)
    parser.add_argument("--worker-pauses", type=int, default=5)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--lease-s", type=float, default=3.0)
    parser.add_argument(
        "--delivery-cap", type=int, default=20, help="a fleet's own is 5: so many kills exceed it"
    )
    parser.add_argument("--ledger-url", help="an empty PostgreSQL database; left out: SQLite")
    parser.add_argument("--markdown", action="store_true", help="print the table for benchmarks/RESULTS.md")
    given = parser.parse_args()
    plan = Plan(
        seed=given.seed,
        jobs=given.jobs,
        worker_kills=given.worker_kills,
        held_reply_kills=given.held_reply_kills,
        broker_kills=given.broker_kills,
        worker_pauses=given.worker_pauses,
        workers=given.workers,
    )
    print(f"seed {plan.seed} (again: python -m tests.chaos --seed {plan.seed})", file=sys.stderr)
    folder = Path(tempfile.mkdtemp(prefix="fl-", dir=scratch_folder()))
    changes = {"lease_s": given.lease_s, "delivery_cap": given.delivery_cap}
    if given.ledger_url:
        changes["ledger_url"] = given.ledger_url
    report = asyncio.run(run(plan, folder, changes))
    return tell("chaos", report.rows(), report.violations, folder=folder, markdown=given.markdown)


async def run(plan: Plan, folder: Path, changes: Mapping[str, Any]) -> Report:
    """Servers, processes, kills; `changes` are WorkerSettings'."""
    with Valkey(folder) as valkey, TwinProcess(folder) as twin:
        own = {"broker_url": valkey.broker_url, "namespace": "chaos", "local_url": twin.url, "slots": 30}
        settings = settings_for(folder, **own, **changes)
        Ledger(settings.ledger_url).migrate()
        async with Scene(settings) as scene:
            soak = Soak(plan, scene, valkey, start=lambda settings: start_worker(settings, folder))
            return await soak.run(say=lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    sys.exit(main())
