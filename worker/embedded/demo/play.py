"""Plays the demo: an embedded fleet in a home of its own, every job through the SDK, then both books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from producer_sdk.client import Fleet
from producer_sdk.contract import JobResult, to_usd
from producer_sdk.settings import embedded_url
from worker.embedded.demo.inputs import DemoInputs
from worker.embedded.demo.jobs import classify_jobs, rag_jobs
from worker.embedded.demo.ledger_books import read_ledger_books
from worker.embedded.demo.report import TenantReport, tenant_reports
from worker.embedded.demo.running import run_jobs
from worker.embedded.demo.twin_books import Comparison, read_twin_books
from worker.embedded.fleet import Commands, EmbeddedFleet, FleetShape
from worker.routing_load import load
from worker.settings import WorkerSettings

SLOTS = 5  # a job's clock starts when it is taken: on two cores more at once would only make each one slower
WITHIN_S = 900.0


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo found, and both books."""

    tenants: list[TenantReport]
    books: Comparison
    jobs_s: float

    def as_json(self) -> dict[str, Any]:
        """Plain values; money as text."""
        return {
            "tenants": [tenant.as_json() for tenant in self.tenants],
            "ledger": {"rows": len(self.books.ledger), "cost_usd": f"{to_usd(self.books.ledger_pico):f}"},
            "provider": {
                "calls": len(self.books.provider),
                "cost_usd": f"{to_usd(self.books.provider_pico):f}",
            },
            "equal": self.books.equal,
            "differing_attempts": [str(attempt) for attempt in self.books.differing],
            "jobs_s": self.jobs_s,
        }


def play(
    inputs: DemoInputs,
    *,
    home: Path,
    commands: Commands,
    workers: int,
    on_result: Callable[[JobResult], None],
    clock: Callable[[], float],
) -> DemoOutcome:
    """Run every job on a fleet that no key and no server of the user's reaches. Raises FleetDown, ResultTimeout."""
    settings = demo_settings(home)
    jobs = [*classify_jobs(inputs.messages), *rag_jobs(inputs)]
    shape = FleetShape(workers=workers, flower_port=None, with_twin=True, hidden=key_names(settings))
    with EmbeddedFleet(settings, commands=commands, shape=shape) as fleet:
        started = clock()
        with Fleet(settings.fleet) as producer:
            results = run_jobs(producer, jobs, within_s=WITHIN_S, on_result=on_result, check=fleet.check)
        took = clock() - started
        provider = read_twin_books(fleet.settings.local_url or "")
    books = Comparison(ledger=read_ledger_books(settings.ledger_url), provider=provider)
    return DemoOutcome(tenant_reports(jobs, results), books, round(took, 1))


def demo_settings(home: Path) -> WorkerSettings:
    """The user's settings, but every server is the demo's own."""
    settings = WorkerSettings.from_env(home=home)
    return replace(
        settings,
        fleet=replace(settings.fleet, broker_url=embedded_url(settings.home), producer_key=None),
        ledger_url=f"sqlite:///{settings.home / 'ledger.sqlite'}",
        local_url=None,
        uses_keys=False,
        slots=SLOTS,
    )


def key_names(settings: WorkerSettings) -> frozenset[str]:
    """The variables that hold keys: hidden from the demo, which must never spend real money."""
    routing = load(settings.routing_path)
    own = (source.env for tenant in routing.tenants.values() for source in tenant.keys.values())
    return frozenset(name for name in (*(one.key_env for one in routing.providers.values()), *own) if name)
