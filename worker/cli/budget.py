"""`fairlane budget`: what every window has left, and when it begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import click
import redis.asyncio

from producer_sdk.contract import to_usd
from producer_sdk.settings import redis_url
from worker.budget.rules import Spender, WindowLimit, windows
from worker.budget.store import BudgetStore, LimitChanges
from worker.cli.asked import FairlaneGroup, example, json_option, print_table, say
from worker.cli.budget_changes import set_limit, top_up
from worker.errors import ConfigError
from worker.job_run import utc_now
from worker.routing_file import RoutingFile, Tenant, Tier
from worker.routing_load import load
from worker.settings import WorkerSettings

COLUMNS = ("window", "limit USD", "spent USD", "held USD", "left USD", "begins anew")
WINDOWS_A_CALL = 500


@dataclass(frozen=True)
class Line:
    """One window as it stands. Amounts in USD, as text, so that none is rounded."""

    window: str
    limit_usd: str
    spent_usd: str
    held_usd: str
    left_usd: str
    resets_at: str | None


@click.group(cls=FairlaneGroup)
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
    limits = list(_windows(load(settings.routing_path), tenant, run))
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


def _windows(routing: RoutingFile, name: str | None, run: str | None) -> Iterator[WindowLimit]:
    """The windows of now: of one tenant, or of every declared one, every provider and the fleet."""
    now = utc_now()
    tenants = [_tenant(routing, name)] if name else list(routing.tenants.values())
    for tenant in tenants:
        runs = (run,) if run else ()
        yield from windows(tenant, now, Spender(runs=runs))
        for feature in tenant.tier.features:
            yield from (w for w in windows(tenant, now, Spender(feature)) if w.name.startswith("f:"))
    if name is None:
        nobody = Tenant("nobody", Tier("none"))
        for provider in routing.providers.values():
            yield from windows(nobody, now, Spender(provider=provider))
        yield from windows(nobody, now, Spender(fleet=routing.fleet))


def _tenant(routing: RoutingFile, name: str) -> Tenant:
    found = routing.tenant(name)
    if found is None:
        raise ConfigError(
            f"there is no tenant '{name}' in routing.yaml: use one of {', '.join(sorted(routing.tenants))}"
        )
    return found


async def _standing(settings: WorkerSettings, limits: list[WindowLimit]) -> tuple[list[Line], bool]:
    client = redis.asyncio.Redis.from_url(redis_url(settings.fleet.broker_url), socket_timeout=5.0)
    try:
        store = BudgetStore(client, namespace=settings.fleet.namespace)
        changed = await store.limit_changes()
        found: dict[str, tuple[int, int]] = {}
        is_known = (await store.standing()).epoch is not None
        for at in range(0, len(limits), WINDOWS_A_CALL):
            names = [limit.name for limit in limits[at : at + WINDOWS_A_CALL]]
            found |= (await store.standing(names)).windows
    finally:
        await client.aclose()
    return [_line(limit, changed, *found.get(limit.name, (0, 0))) for limit in limits], is_known


def _line(limit: WindowLimit, changed: LimitChanges, settled: int, held: int) -> Line:
    most = changed.limits.get(limit.scope, limit.limit_pico) + changed.top_ups.get(limit.name, 0)
    return Line(
        window=limit.name,
        limit_usd=_usd(most),
        spent_usd=_usd(settled),
        held_usd=_usd(held),
        left_usd=_usd(max(0, most - settled - held)),
        resets_at=limit.resets_at.isoformat() if limit.resets_at else None,
    )


def _usd(pico: int) -> str:
    return f"{to_usd(pico).normalize():f}"
