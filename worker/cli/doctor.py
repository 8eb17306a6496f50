"""`fairlane doctor`: what is wrong with this fleet, in words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict

import click
import redis
from rich.console import Console
from rich.text import Text

from producer_sdk.errors import SettingsError
from worker.cli.asked import NOT_SO, example, json_option, say
from worker.cli.book_checks import book_checks
from worker.cli.checks import Check, broker_checks, held, lanes_check, routing_checks
from worker.cli.lanes import look
from worker.cli.opened import open_ledger
from worker.cli.routing_fleet import fleet_checks, fleet_routing
from worker.errors import LedgerUnavailable
from worker.settings import WorkerSettings

AREAS = ("broker", "ledger", "routing", "lanes", "books")
STYLES = {"ok": "green", "bad": "red", "note": "yellow"}


@click.command(
    epilog=example("fairlane doctor", "fairlane doctor books", "fairlane doctor broker ledger --json")
)
@click.argument("areas", nargs=-1, type=click.Choice(AREAS))
@click.option(
    "--only", multiple=True, type=click.Choice(AREAS), help="The same as naming it; may be repeated."
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, areas: tuple[str, ...], only: tuple[str, ...], as_json: bool) -> None:
    """Check broker, ledger, routing.yaml, keys, prices, lanes, clock and books, or only the AREAS that are named.

    `books` compares the budget windows in Redis with the ledger and the journal, and says each difference. Exit code 1
    when something is wrong.
    """
    settings = WorkerSettings.from_env()
    checks = [check for area in (*areas, *only) or AREAS for check in look_at(area, settings)]
    healthy = all(check.state != "bad" for check in checks)
    say(
        {"healthy": healthy, "checks": [asdict(check) for check in checks]},
        as_json=as_json,
        words=lambda: tell(checks),
    )
    ctx.exit(0 if healthy else NOT_SO)


def tell(checks: list[Check]) -> None:
    """One line a check."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.name) for check in checks)
    for check in checks:
        state = (check.state.ljust(4), STYLES[check.state])
        console.print(Text.assemble(state, f"  {check.name.ljust(width)}  {check.said}"))


def look_at(area: str, settings: WorkerSettings) -> Iterator[Check]:
    """The checks of one area."""
    if area == "broker":
        yield from broker_checks(settings)
    elif area == "ledger":
        yield _ledger(settings)
    elif area == "routing":
        yield from routing_checks(settings)
        yield from _fleet_routing(settings)
    elif area == "books":
        yield from book_checks(settings)
    else:
        yield _lanes(settings)


def _lanes(settings: WorkerSettings) -> Check:
    try:
        return lanes_check(asyncio.run(look(settings.fleet)).counts)
    except redis.RedisError:
        return Check("lanes", "note", "they cannot be read without the broker")
    except SettingsError as error:
        return Check("lanes", "bad", str(error))


def _ledger(settings: WorkerSettings) -> Check:
    try:
        current = asyncio.run(_is_current(settings))
    except LedgerUnavailable as error:
        return Check("ledger", "bad", str(error))
    fault = "its tables are not of this version: run `fairlane migrate`"
    return held(current, "ledger", "it answers, and its tables are up to date", fault=fault)


def _fleet_routing(settings: WorkerSettings) -> Iterator[Check]:
    try:
        yield from fleet_checks(asyncio.run(fleet_routing(settings)))
    except LedgerUnavailable as error:
        yield Check("routing fleet", "note", f"it cannot be read without the ledger: {error}")


async def _is_current(settings: WorkerSettings) -> bool:
    async with open_ledger(settings) as ledger:
        return await ledger.is_current()
