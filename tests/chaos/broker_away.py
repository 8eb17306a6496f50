"""`python -m tests.chaos.broker_away`: the broker is killed while calls are open and stays away; none is made twice.

Most of the calls end while it is away. Prints a table, and exits 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from producer_sdk import AsyncFleet
from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.books import Evidence, violations
from tests.chaos.commands import TwinProcess, start_worker
from tests.chaos.crew import Worker
from tests.chaos.scene import Scene, settings_for, until
from tests.chaos.verdict import tell
from tests.servers import Valkey, scratch_folder
from worker.ledger.ledger import Ledger
from worker.settings import WorkerSettings

TENANT = "elephants"
SHARES_OF_ABSENCE = (0.5, 0.65, 0.8, 0.95, 1.3)  # how long calls are open


@dataclass(frozen=True)
class Absence:
    """What happens: so many calls are open, and the broker is away for so long."""

    calls: int = 500
    away_s: float = 90.0
    workers: int = 2


@dataclass(frozen=True)
class Report:
    """What an absence came to."""

    absence: Absence
    lease_s: float
    open_when_killed: int
    ended_while_away: int
    away_s: float
    evidence: Evidence

    @property
    def called_twice(self) -> list[str]:
        """Jobs for which the provider got more than one call; every call was answered well, so none was on purpose."""
        jobs = {event.id: event.job_id for event in self.evidence.events}
        calls = Counter(jobs.get(str(call["attempt"]), "?") for call in self.evidence.calls)
        return sorted(job_id for job_id, count in calls.items() if count > 1)

    @property
    def violations(self) -> list[str]:
        found = violations(self.evidence)
        found += [f"job {job_id} was called twice" for job_id in self.called_twice]
        if self.evidence.succeeded != self.absence.calls:
            found.append(f"{self.evidence.succeeded} of {self.absence.calls} jobs succeeded")
        if self.open_when_killed != self.absence.calls:
            found.append(f"only {self.open_when_killed} calls were open when the broker was killed")
        if self.ended_while_away < self.absence.calls / 2:
            found.append(f"only {self.ended_while_away} calls ended while the broker was away")
        return found

    def rows(self) -> list[tuple[str, str]]:
        """The table."""
        evidence = self.evidence
        return [
            ("calls open when the broker was killed (SIGKILL)", str(self.open_when_killed)),
            ("away", f"{self.away_s:.0f} s, {self.away_s / self.lease_s:.1f} leases of {self.lease_s:g} s"),
            ("calls that ended while it was away", str(self.ended_while_away)),
            ("jobs accepted", str(len(evidence.accepted))),
            ("succeeded", str(evidence.succeeded)),
            ("calls that the provider got", str(len(evidence.calls))),
            ("jobs called twice", str(len(self.called_twice))),
            ("lost", str(len(evidence.lost))),
            ("uncertain", str(len(evidence.uncertain))),
            ("unacked", str(evidence.lanes["unacked"])),
            ("holds left", str(evidence.holds)),
        ]


async def send_away(
    absence: Absence, scene: Scene, valkey: Valkey, *, start: Callable[[WorkerSettings], Worker]
) -> Report:
    """Open the calls, kill the broker, start it again from its AOF, and wait for rest."""
    lasting_ms = [round(absence.away_s * share * 1000) for share in SHARES_OF_ABSENCE]
    await scene.behave(*({"match": {"contains": f"[{ms} ms]"}, "latency_ms": ms} for ms in lasting_ms))
    slots = -(-absence.calls // absence.workers)
    names = [f"w{number + 1}" for number in range(absence.workers)]
    workers = [start(replace(scene.settings, worker_name=name, slots=slots)) for name in names]
    try:
        async with AsyncFleet(scene.settings.fleet) as fleet:
            jobs = [_job(lasting_ms[number % len(lasting_ms)]) for number in range(absence.calls)]
            scene.accepted |= {str(handle.job_id) for handle in await fleet.submit_many(jobs)}

        async def all_called() -> bool:
            return await scene.calls_made() >= absence.calls

        await until(all_called, within_s=60, what="all calls")
        open_when_killed, began = await _open_calls(scene), time.monotonic()
        valkey.kill()
        await asyncio.sleep(absence.away_s)  # the outage itself
        ended = open_when_killed - await _open_calls(scene)
        valkey.start()
        away_s = time.monotonic() - began
        rest_s = absence.away_s + 3 * scene.settings.lease_s + 20
        await until(scene.is_at_rest, within_s=rest_s, what="rest")
        report = Report(
            absence, scene.settings.lease_s, open_when_killed, ended, away_s, await scene.evidence()
        )
    finally:
        for worker in workers:
            worker.kill()
    return report


async def _open_calls(scene: Scene) -> int:
    return sum(call["finished"] == "open" for call in await scene.calls())


def _job(lasting_ms: int) -> Job:
    text = f"[{lasting_ms} ms] question {uuid7()}"
    return Job(job_id=uuid7(), tenant=TENANT, task="ask_first", messages=[Message(role="user", content=text)])


def main() -> int:
    """Run one absence in a temporary folder, which stays when something was wrong."""
    usual = Absence()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.broker_away", description=__doc__)
    parser.add_argument("--calls", type=int, default=usual.calls)
    parser.add_argument("--away-s", type=float, default=usual.away_s)
    parser.add_argument("--workers", type=int, default=usual.workers)
    parser.add_argument("--lease-s", type=float, default=45.0)
    parser.add_argument("--markdown", action="store_true", help="print the table for benchmarks/RESULTS.md")
    given = parser.parse_args()
    absence = Absence(calls=given.calls, away_s=given.away_s, workers=given.workers)
    folder = Path(tempfile.mkdtemp(prefix="fl-", dir=scratch_folder()))
    report = asyncio.run(run(absence, folder, lease_s=given.lease_s))
    return tell("broker away", report.rows(), report.violations, folder=folder, markdown=given.markdown)


async def run(absence: Absence, folder: Path, *, lease_s: float) -> Report:
    """Servers, processes, the absence."""
    with Valkey(folder) as valkey, TwinProcess(folder) as twin:
        settings = settings_for(
            folder, broker_url=valkey.broker_url, namespace="away", lease_s=lease_s, local_url=twin.url
        )
        Ledger(settings.ledger_url).migrate()
        async with Scene(settings) as scene:
            return await send_away(
                absence, scene, valkey, start=lambda settings: start_worker(settings, folder)
            )


if __name__ == "__main__":
    sys.exit(main())
