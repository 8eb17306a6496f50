"""The budget windows of this moment, as routing.yaml limits them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import click

from worker.budget.rules import Spender, WindowLimit, windows
from worker.errors import ConfigError
from worker.job_run import utc_now
from worker.routing_file import RoutingFile, Tenant, Tier

Span = Literal["daily", "monthly"]
NO_TENANT = Tenant("nobody", Tier("none"))  # whose windows are the provider's or the fleet's alone


def declared(routing: RoutingFile, name: str) -> Tenant:
    """The tenant. Raises ConfigError where routing.yaml has none of that name."""
    tenant = routing.tenant(name)
    if tenant is None:
        known = ", ".join(sorted(routing.tenants))
        raise ConfigError(f"there is no tenant '{name}' in routing.yaml: use one of {known}")
    return tenant


def of_feature(tenant: Tenant, feature: str) -> list[WindowLimit]:
    """A feature's own, without its tenant's; none where the feature has no limit."""
    return [window for window in windows(tenant, utc_now(), Spender(feature)) if window.name.startswith("f:")]


def of_tenant(tenant: Tenant, *, run: str | None = None) -> Iterator[WindowLimit]:
    """A tenant's, those of its features, and one run's."""
    yield from windows(tenant, utc_now(), Spender(runs=(run,) if run else ()))
    for feature in tenant.tier.features:
        yield from of_feature(tenant, feature)


def all_windows(routing: RoutingFile) -> Iterator[WindowLimit]:
    """Every declared tenant's, every provider's and the fleet's; runs are not declared."""
    for tenant in routing.tenants.values():
        yield from of_tenant(tenant)
    for provider in routing.providers.values():
        yield from windows(NO_TENANT, utc_now(), Spender(provider=provider))
    yield from windows(NO_TENANT, utc_now(), Spender(fleet=routing.fleet))


def find(
    routing: RoutingFile,
    *,
    tenant: str | None,
    feature: str | None,
    provider: str | None,
    fleet: bool,
    span: Span,
) -> WindowLimit:
    """The one window that is named. Raises UsageError where it is not one, ConfigError where it has no limit."""
    if sum([tenant is not None, provider is not None, fleet]) != 1 or (feature and not tenant):
        raise click.UsageError("name one: --tenant (with or without --feature), --provider or --fleet")
    spender, whose = Spender(fleet=routing.fleet), NO_TENANT
    if tenant is not None:
        spender, whose = Spender(), declared(routing, tenant)
    elif provider is not None:
        if provider not in routing.providers:
            raise ConfigError(f"there is no provider '{provider}' in routing.yaml")
        spender = Spender(provider=routing.providers[provider])
    found = of_feature(whose, feature) if feature else windows(whose, utc_now(), spender)
    setting = f"{span}_budget_usd"
    match = next((window for window in found if window.setting == setting), None)
    if match is None:
        raise ConfigError(
            f"routing.yaml has no {setting} there: add one first, then it can be changed while the fleet runs"
        )
    return match
