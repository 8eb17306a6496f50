"""Tiers and tenants in routing.yaml: which aliases they may use, and within which limits."""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any, get_args

from worker.routing_file import Action, TaskShare, Tenant, Tier
from worker.routing_load.budgets import BUDGET_KEYS, budget_of, soft_limit_of
from worker.routing_load.providers import own_keys_of
from worker.routing_load.runs import RUN_KEYS, run_caps_of
from worker.routing_load.tasks import one_or_more
from worker.routing_load.yaml_nodes import Fields, Place, did_you_mean

TENANT_KEYS = ("tier", "zone", "keys", "own_keys_only")
LIMIT_KEYS = (
    "allow",
    "deny",
    "replace",
    "max_output_tokens",
    "daily_budget_usd",
    "monthly_budget_usd",
    "run_budget_usd",
    *RUN_KEYS,
    "soft_limit",
    "features",
    "weight",
    "concurrency",
    "requests_per_min",
    "tokens_per_min",
    "burst_s",
    "max_pending",
    "tasks",
    "retries_per_min",
    "unsafe_tool_result",
    "unsafe_document",
)
SHARE_KEYS = ("concurrency", "requests_per_min", "tokens_per_min")


def tier_of(name: str, place: Place, aliases: Collection[str], tasks: Collection[str]) -> Tier:
    """One tier; what it does not say is as Tier has it."""
    return _limited(place.fields(LIMIT_KEYS), Tier(name), aliases, tasks)


def tenant_of(
    name: str,
    place: Place,
    tiers: dict[str, Tier],
    known: tuple[Collection[str], Collection[str]],
    *,
    providers: Collection[str] = (),
) -> Tenant:
    """`acme: pro`, or a mapping: its tier, its zone, its own limits and keys; `known`: aliases, tasks."""
    if place.is_scalar():
        return Tenant(name, tiers.get(place.name_of(tiers, "tier")) or Tier("?"))
    fields = place.fields((*TENANT_KEYS, *LIMIT_KEYS), required=("tier",))
    at = fields.entries.get("tier")
    tier = tiers.get(at.name_of(tiers, "tier") if at else "") or Tier("?")
    own = own_keys_of(fields, providers)
    only = fields.truth("own_keys_only", default=False)
    if only and not own:
        fields.entries["own_keys_only"].fault("the tenant has no key of its own: add 'keys', or remove this")
    return Tenant(name, _limited(fields, tier, *known), zone=_zone(fields), keys=own, own_keys_only=only)


def _limited(fields: Fields, tier: Tier, aliases: Collection[str], tasks: Collection[str]) -> Tier:
    """The tier with what these fields say instead."""
    said: dict[str, Any] = {
        "max_output_tokens": fields.whole("max_output_tokens", high=100_000_000),
        "daily_budget_usd": fields.amount("daily_budget_usd"),
        "monthly_budget_usd": fields.amount("monthly_budget_usd"),
        "run_budget_usd": fields.amount("run_budget_usd"),
        **run_caps_of(fields),
        "soft_limit": soft_limit_of(fields),
        "weight": fields.number("weight", low=Decimal("0.01"), high=1_000),
        **_share(fields),
        "burst_s": fields.number("burst_s", low=Decimal("0.1"), high=3_600),
        "max_pending": fields.whole("max_pending", high=100_000_000),
        "retries_per_min": fields.whole("retries_per_min", low=0, high=1_000_000),
        "unsafe_tool_result": fields.choice("unsafe_tool_result", get_args(Action)),
        "unsafe_document": fields.choice("unsafe_document", get_args(Action)),
    }
    for name in ("allow", "deny"):
        if name in fields.entries:
            said[name] = frozenset(one_or_more(fields.entries[name], aliases))
    if "replace" in fields.entries:
        said["replace"] = _replacements(fields.entries["replace"], aliases)
    if "features" in fields.entries:
        places = fields.entries["features"].entries()
        said["features"] = tier.features | {n: budget_of(p.fields(BUDGET_KEYS)) for n, p in places.items()}
    if "tasks" in fields.entries:
        said["tasks"] = tier.tasks | _shares(fields.entries["tasks"], tasks)
    limited = replace(tier, **{name: value for name, value in said.items() if value is not None})
    _check_not_contradicting(fields, limited)
    return limited


def _share(fields: Fields) -> dict[str, int | None]:
    """What may be let go: jobs at once, and requests and tokens a minute."""
    return {name: fields.whole(name, high=1_000_000_000) for name in SHARE_KEYS}


def _shares(place: Place, tasks: Collection[str]) -> dict[str, TaskShare]:
    shares = {}
    for name, share in place.entries().items():
        if name not in tasks:
            share.fault(f"there is no task '{name}'{did_you_mean(name, tasks)}")
        shares[name] = TaskShare(**_share(share.fields(SHARE_KEYS)))
    return shares


def _replacements(place: Place, aliases: Collection[str]) -> dict[str, str]:
    replacements = {}
    for name, to in place.entries().items():
        if name not in aliases:
            to.fault(f"there is no alias '{name}'{did_you_mean(name, aliases)}")
        replacements[name] = to.name_of(aliases, "alias")
    return replacements


def _check_not_contradicting(fields: Fields, tier: Tier) -> None:
    both = sorted(tier.allow & tier.deny)
    if both:
        fields.place.fault(f"'{both[0]}' is both allowed and denied: remove it from one list")
    for name, to in tier.replace.items():
        if to in tier.deny or (tier.allow and to not in tier.allow):
            fields.place.fault(f"'{name}' is replaced by '{to}', which this tier does not allow")


def _zone(fields: Fields) -> str:
    zone = fields.text("zone") or "UTC"
    if zone != "UTC" and zone not in _zones():
        fields.entries["zone"].fault(f"there is no time zone '{zone}', write one like Europe/Berlin or UTC")
    return zone


@cache
def _zones() -> set[str]:
    """The machine's time zones; looking for them opens every file of its database."""
    return zoneinfo.available_timezones()
