"""`fairlane lanes`: what waits and what runs, per tenant, and the dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
import redis.asyncio

from producer_sdk.lanes import Lanes
from producer_sdk.settings import FleetSettings, redis_url
from worker.cli.asked import example, json_option, print_table, say


@dataclass(frozen=True)
class LaneView:
    """The lanes at one moment."""

    counts: dict[str, Any]
    queues: list[dict[str, Any]]
    dead: list[dict[str, Any]]


@click.command(epilog=example("fairlane lanes", "fairlane lanes --json"))
@click.option("--dead", "show_dead", is_flag=True, help="List the dead letters too.")
@json_option
def lanes(show_dead: bool, as_json: bool) -> None:
    """Show each tenant's queue: waiting, running, cap, and how long its oldest job waits."""
    view = asyncio.run(look(FleetSettings.from_env()))
    say(asdict(view), as_json=as_json, words=lambda: tell(view, show_dead))


async def look(settings: FleetSettings) -> LaneView:
    """Ask the broker."""
    client = redis.asyncio.Redis.from_url(redis_url(settings.broker_url), socket_timeout=5.0)
    try:
        found = Lanes(client, namespace=settings.namespace)
        counts, queues, dead = await found.counts(), await found.depths(), await found.dead()
    finally:
        await client.aclose()
    return LaneView(asdict(counts), [asdict(queue) for queue in queues], [asdict(job) for job in dead])


def tell(view: LaneView, show_dead: bool) -> None:
    """In words."""
    click.echo(", ".join(f"{count} {name}" for name, count in view.counts.items()))
    if view.queues:
        _table(view.queues, ("tenant", "lane", "pending", "running", "cap", "oldest_ms"))
    if show_dead and view.dead:
        _table(view.dead, ("job_id", "tenant", "deliveries", "reason"), title="dead letters")


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, title: str | None = None) -> None:
    print_table(columns, [[row[column] for column in columns] for row in rows], title=title)
