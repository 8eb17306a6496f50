"""`fairlane budget set` and `top-up`: an operator's changes, which hold at once on every worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import click
import redis.asyncio

from producer_sdk.contract import to_pico, to_usd, uuid7
from producer_sdk.lanes import Lanes
from producer_sdk.settings import redis_url
from worker.books import sync_limits
from worker.budget.rules import MOST_PICO, Spender, WindowLimit, windows
from worker.budget.store import BudgetStore
from worker.cli.asked import example, json_option, say
from worker.errors import ConfigError
from worker.job_run import utc_now
from worker.ledger.ledger import Ledger, LimitChange
from worker.routing_file import RoutingFile, Tenant, Tier
from worker.routing_load import load
from worker.settings import WorkerSettings

Span = Literal["daily", "monthly"]
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
    limit = "routing.yaml's again" if usd is None else f"{to_usd(usd).normalize():f} USD"
    told = {"scope": window.scope, "limit_usd": None if usd is None else f"{to_usd(usd).normalize():f}"}
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
    added = f"{to_usd(usd).normalize():f}"
    told = {"window": window.name, "added_usd": added}
    say(told, as_json=as_json, words=lambda: click.echo(f"{window.name}: {added} USD more"))


def find(
    routing: RoutingFile,
    *,
    tenant: str | None,
    feature: str | None,
    provider: str | None,
    fleet: bool,
    span: Span,
) -> WindowLimit:
    """The window of now that the options name. Raises ConfigError where routing.yaml limits no such window."""
    if sum([tenant is not None, provider is not None, fleet]) != 1 or (feature and not tenant):
        raise click.UsageError("name one: --tenant (with or without --feature), --provider or --fleet")
    nobody = Tenant("nobody", Tier("none"))
    if tenant is not None:
        known = routing.tenant(tenant)
        if known is None:
            raise ConfigError(f"there is no tenant '{tenant}' in routing.yaml")
        found = windows(known, utc_now(), Spender(feature))
        found = tuple(window for window in found if window.name.startswith("f:" if feature else "t:"))
    elif provider is not None:
        if provider not in routing.providers:
            raise ConfigError(f"there is no provider '{provider}' in routing.yaml")
        found = windows(nobody, utc_now(), Spender(provider=routing.providers[provider]))
    else:
        found = windows(nobody, utc_now(), Spender(fleet=routing.fleet))
    setting = f"{span}_budget_usd"
    match = next((window for window in found if window.setting == setting), None)
    if match is None:
        raise ConfigError(
            f"routing.yaml has no {setting} there: add one first, then it can be changed while the fleet runs"
        )
    return match


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


async def _applied(settings: WorkerSettings, change: LimitChange, tenant: str | None) -> None:
    fleet = settings.fleet
    client = redis.asyncio.Redis.from_url(redis_url(fleet.broker_url), socket_timeout=5.0)
    ledger = Ledger(settings.ledger_url, timeout_s=settings.ledger_timeout_s)
    ledger.start()
    try:
        await ledger.change_limit(change)
        await sync_limits(ledger, BudgetStore(client, namespace=fleet.namespace))
        if tenant is not None:
            await Lanes(client, namespace=fleet.namespace, shards=fleet.lane_shards).hurry(tenant)
    finally:
        await ledger.close()
        await client.aclose()
