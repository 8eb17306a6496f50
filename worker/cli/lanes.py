"""`fairlane lanes`: what waits and what runs, per tenant, and what holds it up; and pausing a tenant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
import redis.asyncio

from producer_sdk.broker import connect
from producer_sdk.contract.job import LANES
from producer_sdk.errors import SettingsError
from producer_sdk.lanes import Lanes, WrongShards
from producer_sdk.settings import FleetSettings
from worker.cli.asked import NOT_SO, FairlaneGroup, duration_of, example, json_option, print_table, say

T = TypeVar("T")
COLUMNS = (
    "tenant",
    "lane",
    "pending",
    "delayed",
    "running",
    "cap",
    "virtual time",
    "next waits",
    "held up by",
)


@dataclass(frozen=True)
class LaneView:
    """The lanes at one moment. `pauses` are all of them, `queues` those of tenants with work."""

    counts: dict[str, Any]
    queues: list[dict[str, Any]]
    pauses: list[dict[str, Any]]
    dead: list[dict[str, Any]]


@click.group(
    cls=FairlaneGroup,
    invoke_without_command=True,
    epilog=example("fairlane lanes --watch", "fairlane lanes --json", "fairlane lanes pause acme --for 2h"),
)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every", default=2.0, type=click.FloatRange(0.2, 3600), show_default=True, help="Seconds, with --watch."
)
@json_option
@click.pass_context
def lanes(ctx: click.Context, watch: bool, every: float, as_json: bool) -> None:
    """Show each tenant's queue: waiting, running, virtual time, how long its next job waits, and what holds it up."""
    if ctx.invoked_subcommand:
        return
    settings = FleetSettings.from_env()
    while True:
        view = asyncio.run(look(settings))
        if watch and not as_json:
            click.clear()
        say(asdict(view), as_json=as_json, words=lambda view=view: tell(view))  # type: ignore[misc]
        if not watch:
            return
        time.sleep(every)


@asynccontextmanager
async def open_lanes(settings: FleetSettings) -> AsyncIterator[Lanes]:
    """The fleet's lanes. Raises SettingsError where they have another number of shards."""
    client = connect(settings)
    try:
        yield await agreed_lanes(client, settings)
    finally:
        await client.aclose()


async def agreed_lanes(client: redis.asyncio.Redis, settings: FleetSettings) -> Lanes:
    """The lanes on this connection. Raises SettingsError likewise."""
    found = Lanes(client, namespace=settings.namespace, shards=settings.lane_shards)
    try:
        await found.agree()
    except WrongShards as error:
        raise SettingsError(str(error)) from error
    return found


async def look(settings: FleetSettings) -> LaneView:
    """Ask the broker."""
    async with open_lanes(settings) as found:
        counts, queues = await found.counts(), await found.depths()
        pauses, dead = await found.pauses(), await found.dead()
    return LaneView(asdict(counts), *([asdict(one) for one in each] for each in (queues, pauses, dead)))


def tell(view: LaneView) -> None:
    """In words."""
    click.echo(", ".join(f"{count} {name}" for name, count in view.counts.items()))
    if view.queues:
        print_table(COLUMNS, [_row(queue) for queue in view.queues])
    shown = {queue["tenant"] for queue in view.queues}
    for pause in view.pauses:
        if pause["tenant"] not in shown:
            click.echo(f"{pause['tenant']}: {_paused(pause['until_ms'], pause['reason'])}")
    if view.counts["dead"]:
        click.echo("`fairlane dead list` shows the dead letters.")


def _row(queue: dict[str, Any]) -> list[Any]:
    waits = f"{queue['oldest_ms'] / 1000:.1f} s" if queue["pending"] else "-"
    delayed = queue["delayed"] if queue["lane"] == LANES[0] else None
    return [
        *(queue[name] for name in ("tenant", "lane", "pending")),
        delayed,
        *(queue[name] for name in ("running", "cap", "virtual_time")),
        waits,
        _held_up(queue),
    ]


def _held_up(queue: dict[str, Any]) -> str:
    if queue["paused_until_ms"] is not None:
        return _paused(queue["paused_until_ms"], queue["paused_for"])
    if not queue["pending"]:
        return "-"
    if queue["throttled_by"]:
        return f"{queue['throttled_by']}, {queue['throttled_ms'] / 1000:.1f} s more"
    return "its concurrency" if queue["running"] >= queue["cap"] else "-"


def _paused(until_ms: int, reason: str) -> str:
    until = f"until {datetime.fromtimestamp(until_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if until_ms else ""
    return " ".join(word for word in ("paused", until, f"({reason})" if reason else "") if word)


def _run(act: Callable[[Lanes], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        async with open_lanes(FleetSettings.from_env()) as found:
            return await act(found)

    return asyncio.run(run())


@lanes.command(
    epilog=example(
        'fairlane lanes pause acme --for 2h --reason "unpaid invoice"', "fairlane lanes pause acme"
    )
)
@click.argument("tenant")
@click.option(
    "--for", "duration", callback=duration_of, help="For how long, for example 90m. [until it is resumed]"
)
@click.option("--reason", default="", help="Shown by `fairlane lanes`.")
@json_option
def pause(tenant: str, duration: timedelta | None, reason: str, as_json: bool) -> None:
    """Hand out none of TENANT's waiting jobs; what runs goes on, and new jobs are accepted."""
    for_ms = int(duration.total_seconds() * 1000) if duration else 0
    until_ms = _run(lambda found: found.pause(tenant, for_ms=for_ms, reason=reason))
    told = {"tenant": tenant, "until_ms": until_ms, "reason": reason}
    say(told, as_json=as_json, words=lambda: click.echo(f"{tenant}: {_paused(until_ms, reason)}"))


@lanes.command(epilog=example("fairlane lanes resume acme"))
@click.argument("tenant")
@json_option
@click.pass_context
def resume(ctx: click.Context, tenant: str, as_json: bool) -> None:
    """Let a paused TENANT go on; exit code 1 when it was not paused."""
    was_paused = _run(lambda found: found.resume(tenant))
    words = f"{tenant} goes on" if was_paused else f"{tenant} was not paused"
    say({"tenant": tenant, "was_paused": was_paused}, as_json=as_json, words=lambda: click.echo(words))
    ctx.exit(0 if was_paused else NOT_SO)
