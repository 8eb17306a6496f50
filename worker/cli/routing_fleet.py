"""The fleet's own routing.yaml, as its ledger has it: which version is in force, and which its workers have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from worker.cli.checks import Check
from worker.cli.opened import open_ledger
from worker.errors import LedgerUnavailable
from worker.job_run import utc_now
from worker.ledger.records import RoutingVersion, RoutingWorker
from worker.reload.rules import HEARD_OF_S
from worker.routing_file import RoutingFile
from worker.routing_load import Source, load_source, source_of
from worker.settings import WorkerSettings

PATIENCE_S = 3.0
BY_HAND = "fairlane routing publish"


@dataclass(frozen=True)
class FleetRouting:
    """What is in force, its bytes, and the workers that live."""

    in_force: RoutingVersion
    source: Source
    workers: tuple[RoutingWorker, ...]

    def said(self) -> str:
        """One sentence."""
        now = self.in_force
        since = f"{now.created_at:%Y-%m-%d %H:%M:%S} UTC"
        told = f"version {now.version} is the fleet's (number {now.number}, since {since})"
        others = [one for one in self.workers if one.version != now.version]
        if others:
            told += "; " + ", ".join(f"{one.worker} still has {one.version}" for one in others[:5])
        return told + f"; {len(self.workers) - len(others)} of {len(self.workers)} workers have it"


async def fleet_routing(settings: WorkerSettings) -> FleetRouting | None:
    """None where no worker has ever published one. Raises LedgerUnavailable, within seconds."""
    fleet = settings.fleet.namespace
    if not _may_be_there(settings.ledger_url):
        raise LedgerUnavailable("there is no ledger yet: start a fleet with `fairlane up`")
    async with open_ledger(
        replace(settings, ledger_timeout_s=min(PATIENCE_S, settings.ledger_timeout_s))
    ) as ledger:
        now = await ledger.routing_in_force(fleet)
        bytes_of = await ledger.routing_content(fleet, now.version) if now else None
        if now is None or bytes_of is None:
            return None
        workers = await ledger.routing_workers(fleet, since=utc_now() - timedelta(seconds=HEARD_OF_S))
        return FleetRouting(now, Source("routing.yaml", *bytes_of), tuple(workers))


async def routing_in_force(settings: WorkerSettings) -> RoutingFile:
    """What the fleet runs, by its ledger; the file here where that does not say. Raises ConfigError."""
    try:
        fleet = await fleet_routing(settings)
    except LedgerUnavailable:
        fleet = None
    return load_source(fleet.source if fleet else source_of(settings.routing_path))[0]


def _may_be_there(ledger_url: str) -> bool:
    path = ledger_url.removeprefix("sqlite:///")
    return path == ledger_url or Path(path).is_file()


async def publish(settings: WorkerSettings, source: Source, version: str) -> RoutingVersion:
    """Make it the fleet's; what is in force already stays as it is. Raises LedgerUnavailable."""
    fleet = settings.fleet.namespace
    async with open_ledger(settings) as ledger:
        for _ in range(5):
            now = await ledger.routing_in_force(fleet)
            if now and now.version == version:
                return now
            about = RoutingVersion(now.number + 1 if now else 1, version, BY_HAND, utc_now())
            if await ledger.publish_routing(fleet, about, (source.content, source.around or b"")):
                return about
    raise LedgerUnavailable(
        "others publish at the same time: look with `fairlane routing show`, then try again"
    )


def fleet_checks(found: FleetRouting | None) -> Iterator[Check]:
    """The version in force, workers that do not have it, and files that were refused."""
    if found is None:
        yield Check("routing fleet", "note", "no worker has begun with one yet")
        return
    behind = any(one.version != found.in_force.version for one in found.workers)
    yield Check("routing fleet", "bad" if behind else "ok", found.said())
    for one in found.workers:
        if one.refused:
            yield Check(f"routing {one.worker}", "bad", f"it has refused a routing.yaml: {one.refused}")
