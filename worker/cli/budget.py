"""`fairlane budget`: what every window has left, and when it begins anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import click

from producer_sdk.contract import usd_text
from worker.budget.rules import WindowLimit
from worker.budget.store import LimitChanges
from worker.cli.asked import FairlaneGroup, example, json_option, print_table, say
from worker.cli.budget_changes import set_limit, top_up
from worker.cli.budget_windows import all_windows, declared, of_tenant
from worker.cli.opened import open_store
from worker.routing_load import load
from worker.settings import WorkerSettings

COLUMNS = ("window", "limit USD", "spent USD", "held USD", "left USD", "begins anew")


@dataclass(frozen=True)
class Line:
    """One window as it stands. Amounts in USD, as text, so that none is rounded."""

    window: str
    limit_usd: str
    spent_usd: str
    held_usd: str
    left_usd: str
    resets_at: str | None


@click.group(
    cls=FairlaneGroup,
    epilog=example("fairlane budget show --tenant acme", "fairlane budget top-up 5 --tenant acme"),
)
def budget() -> None:
    """What may be spent, and what has been."""


budget.add_command(set_limit)
budget.add_command(top_up)


@budget.command(
    epilog=example("fairlane budget show --tenant acme", "fairlane budget show --run r-17 --tenant acme")
)
@click.option("--tenant", help="Only this tenant's windows.")
@click.option("--run", help="This agent run's window too; with --tenant.")
@json_option
def show(tenant: str | None, run: str | None, as_json: bool) -> None:
    """Show every window that routing.yaml limits, as it stands now: spent, held by calls under way, and left.

    What was set or added while the fleet ran is in the limit.
    """
    if run and not tenant:
        raise click.UsageError("--run is a tenant's: name it with --tenant")
    settings = WorkerSettings.from_env()
    routing = load(settings.routing_path)
    limits = list(of_tenant(declared(routing, tenant), run=run) if tenant else all_windows(routing))
    lines, is_known = asyncio.run(_standing(settings, limits))

    def words() -> None:
        if not is_known:
            click.echo(
                "No worker has built the books in Redis yet: nothing is spent there, see `fairlane usage`."
            )
        if not lines:
            click.echo("routing.yaml limits nothing here.")
            return
        rows = [[*list(vars(line).values())[:-1], line.resets_at or "never"] for line in lines]
        print_table(COLUMNS, rows)

    say({"known": is_known, "windows": [vars(line) for line in lines]}, as_json=as_json, words=words)


async def _standing(settings: WorkerSettings, limits: list[WindowLimit]) -> tuple[list[Line], bool]:
    async with open_store(settings) as store:
        changed = await store.limit_changes()
        standing = await store.standing([limit.name for limit in limits])
    lines = [_line(limit, changed, *standing.windows.get(limit.name, (0, 0))) for limit in limits]
    return lines, standing.epoch is not None


def _line(limit: WindowLimit, changed: LimitChanges, settled: int, held: int) -> Line:
    most = changed.limits.get(limit.scope, limit.limit_pico) + changed.top_ups.get(limit.name, 0)
    return Line(
        window=limit.name,
        limit_usd=usd_text(most),
        spent_usd=usd_text(settled),
        held_usd=usd_text(held),
        left_usd=usd_text(max(0, most - settled - held)),
        resets_at=limit.resets_at.isoformat() if limit.resets_at else None,
    )
