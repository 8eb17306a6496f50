"""`fairlane budget set` and `top-up`: an operator's changes, which hold at once on every worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import click
import redis

from producer_sdk.contract import to_pico, to_usd, usd_text, uuid7
from producer_sdk.errors import BrokerUnavailable, SettingsError
from producer_sdk.lanes import Lanes
from worker.books import sync_limits
from worker.budget.rules import MOST_PICO
from worker.cli.asked import example, json_option, say
from worker.cli.budget_windows import find
from worker.cli.lanes import open_lanes
from worker.cli.opened import open_ledger, open_store
from worker.errors import BudgetUnavailable, LedgerUnavailable
from worker.job_run import utc_now
from worker.ledger.ledger import LimitChange
from worker.routing_load import load
from worker.settings import WorkerSettings

LONGEST_REASON = 500


def targets(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name a window: whose, and of which span."""
    options = (
        click.option("--tenant", help="A tenant's."),
        click.option("--feature", help="A feature's; with --tenant."),
        click.option("--provider", help="A provider's, of all tenants together."),
        click.option("--fleet", is_flag=True, help="The whole fleet's."),
        click.option("--monthly", "span", flag_value="monthly", help="The month's, not the day's."),
        click.option("--daily", "span", flag_value="daily", default=True, help="The day's.  [default]"),
        click.option("--reason", default="", help="Written down with the change."),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def amount(_ctx: click.Context, _parameter: click.Parameter, text: str) -> int | None:
    """Pico-dollars; None for `default`."""
    if text == "default":
        return None
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal(-1)
    if not usd.is_finite() or usd < 0 or to_pico(usd) > MOST_PICO:
        raise click.BadParameter(f"write USD from 0 to {to_usd(MOST_PICO):f}, for example 12.50")
    return to_pico(usd)


@click.command(
    "set",
    epilog=example(
        "fairlane budget set 40 --tenant acme",
        "fairlane budget set 0 --provider openai --reason outage",
        "fairlane budget set default --tenant acme",
    ),
)
@click.argument("usd", callback=amount)
@targets
def set_limit(usd: int | None, reason: str, as_json: bool, **target: Any) -> None:
    """Let USD be the limit from now on, today's and every later day's; `default` is routing.yaml's again."""
    settings = WorkerSettings.from_env()
    window = find(load(settings.routing_path), **target)
    _apply(settings, "set", window.scope, usd, reason, target["tenant"])
    limit = "routing.yaml's again" if usd is None else f"{usd_text(usd)} USD"
    told = {"scope": window.scope, "limit_usd": None if usd is None else usd_text(usd)}
    say(told, as_json=as_json, words=lambda: click.echo(f"{window.scope}: the limit is {limit}"))


@click.command("top-up", epilog=example("fairlane budget top-up 5 --tenant acme --reason 'order 17'"))
@click.argument("usd", callback=amount)
@targets
def top_up(usd: int | None, reason: str, as_json: bool, **target: Any) -> None:
    """Add USD to the window of now alone: today's, or with --monthly this month's."""
    if not usd:
        raise click.UsageError("a top-up is an amount above 0")
    settings = WorkerSettings.from_env()
    window = find(load(settings.routing_path), **target)
    _apply(settings, "top_up", window.name, usd, reason, target["tenant"])
    added = usd_text(usd)
    told = {"window": window.name, "added_usd": added}
    say(told, as_json=as_json, words=lambda: click.echo(f"{window.name}: {added} USD more"))


def _apply(
    settings: WorkerSettings,
    kind: Literal["set", "top_up"],
    name: str,
    pico: int | None,
    reason: str,
    tenant: str | None,
) -> None:
    """Into SQL, which is the truth; then into Redis, which admits; then whoever is parked is looked at again."""
    if len(reason) > LONGEST_REASON:
        raise click.UsageError(f"--reason: at most {LONGEST_REASON} characters")
    change = LimitChange(uuid7(), kind, name, pico, reason, utc_now())
    asyncio.run(_applied(settings, change, tenant))


async def _with_delayed_jobs(lanes: Lanes) -> list[str]:
    """Whoever may have parked jobs for a budget that is everybody's."""
    return sorted({queue.tenant for queue in await lanes.depths() if queue.delayed})


async def _applied(settings: WorkerSettings, change: LimitChange, tenant: str | None) -> None:
    async with open_ledger(settings) as ledger:
        await ledger.change_limit(change)
        try:
            async with open_store(settings) as store:
                await sync_limits(ledger, store)
            async with open_lanes(settings.fleet) as lanes:
                for waiting in [tenant] if tenant else await _with_delayed_jobs(lanes):
                    await lanes.hurry(waiting)
        except (BudgetUnavailable, LedgerUnavailable, SettingsError, redis.RedisError) as error:
            raise BrokerUnavailable(
                "it is written down, so do not repeat it: the workers' reaper brings it to the broker within a lease, "
                f"for it could not be told now ({type(error).__name__})"
            ) from error
