"""Loads routing.yaml: every value checked, every name resolved, each mistake one sentence with its place.

The seed's own notation loads as it stands: a mapping of tasks without a `tasks:` key supplies the tasks, and
everything else comes from the routing.yaml in the package.
"""

from __future__ import annotations

import hashlib
import zoneinfo
from collections.abc import Callable, Collection
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from producer_sdk.contract.control import CONTROL_PREFIX
from producer_sdk.contract.job import TaskName, TenantName
from worker.errors import ConfigError
from worker.routing_budgets import BUDGET_KEYS, budget_of, soft_limit_of
from worker.routing_file import (
    NO_BUDGET,
    Action,
    Deployment,
    Dialect,
    Provider,
    RoutingFile,
    TaskRule,
    TaskShare,
    Tenant,
    Tier,
    Tokenizer,
)
from worker.routing_prices import price_of
from worker.routing_providers import provider_of
from worker.routing_runs import RUN_KEYS, run_caps_of
from worker.yaml_nodes import Faults, Fields, Place, did_you_mean, read_root

SECTIONS = ("providers", "aliases", "tasks", "tiers", "tenants", "default_tier", "fleet")
DEPLOYMENT_KEYS = (
    "provider",
    "model",
    "context_tokens",
    "max_output_tokens",
    "weight",
    "price",
    "tokenizer",
    "service_tier",
    "answers_as",
)
# What a call may ask for. Anthropic calls its default tier `standard`, and takes no other tier by name.
SERVICE_TIERS: dict[Dialect, tuple[str, ...]] = {
    "openai": ("default", "flex", "priority", "fast"),
    "anthropic": ("standard_only",),
}
TASK_KEYS = (
    "default",
    "fallback",
    "max_latency_ms",
    "max_cost_usd",
    "requires_citations",
    "max_output_tokens",
    "cache_ttl_s",
)
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
_TASK_NAME: TypeAdapter[str] = TypeAdapter(TaskName)
_TENANT_NAME: TypeAdapter[str] = TypeAdapter(TenantName)
T = TypeVar("T")


def load(path: Path) -> RoutingFile:
    """The file as values. Raises ConfigError: one sentence with the place, what is wrong and what is right."""
    routing, faults = _read(path)
    if routing is None:
        more = f" (and {len(faults) - 1} more: fairlane routing check)" if len(faults) > 1 else ""
        raise ConfigError(faults[0] + more)
    return routing


def check(path: Path, *, local_url: str | None = None) -> list[str]:
    """Every mistake of the file, one sentence each; none when it loads. `local_url`: FAIRLANE_LOCAL_URL's value."""
    return _read(path, local_url)[1]


def packaged_routing() -> Path:
    """The routing.yaml that comes with the package."""
    package = Path(__file__).parent
    inside = package / "routing.yaml"
    return inside if inside.is_file() else package.parent / "routing.yaml"


def _read(path: Path, local_url: str | None = None) -> tuple[RoutingFile | None, list[str]]:
    faults = Faults(path.name)
    try:
        content = path.read_bytes()
    except OSError as error:
        faults.add(
            1, 1, f"the file cannot be read ({error.strerror}): set FAIRLANE_ROUTING to a routing.yaml"
        )
        return None, faults.found
    root = read_root(content, faults)
    if root is None:
        return None, faults.found
    version = hashlib.sha256(content)
    entries = root.entries()
    if entries and not set(entries) & set(SECTIONS):
        packaged = packaged_routing()
        version.update(packaged.read_bytes())
        around = load(packaged)
        routing = replace(around, tasks=_named(entries, lambda name, task: _task(name, task, around.aliases)))
        for name, task in entries.items():
            _check_task_name(task, name)
    else:
        routing = _whole_file(root, local_url)
    if faults.found:
        return None, faults.found
    return replace(routing, version=version.hexdigest()[:12]), []


def _whole_file(root: Place, local_url: str | None) -> RoutingFile:
    fields = root.fields(SECTIONS, required=("providers", "aliases", "tasks", "tiers"))
    providers = _named(
        fields.entries_of("providers"), lambda name, place: provider_of(name, place, local_url=local_url)
    )
    aliases = _named(fields.entries_of("aliases"), lambda _name, alias: _alias(alias, providers))
    _check_same_everywhere(fields.entries_of("aliases"), aliases)
    tasks = _named(fields.entries_of("tasks"), lambda name, task: _task(name, task, aliases))
    for name, task in fields.entries_of("tasks").items():
        _check_task_name(task, name)
    tiers = _named(
        fields.entries_of("tiers"),
        lambda name, tier: _limited(tier.fields(LIMIT_KEYS), Tier(name), aliases, tasks),
    )
    tenants = _named(
        fields.entries_of("tenants"), lambda name, tenant: _tenant(name, tenant, tiers, (aliases, tasks))
    )
    for name, tenant in fields.entries_of("tenants").items():
        _check_name(tenant, name, _TENANT_NAME, "a tenant")
    default_tier = fields.entries.get("default_tier")
    if not tenants and default_tier is None:
        root.fault("there is no tenant: add 'tenants', or a 'default_tier' for those not declared")
    return RoutingFile(
        version="",
        providers=providers,
        aliases=aliases,
        tasks=tasks,
        tiers=tiers,
        tenants=tenants,
        default_tier=default_tier.name_of(tiers, "tier") if default_tier else None,
        fleet=budget_of(fields.entries["fleet"].fields(BUDGET_KEYS))
        if "fleet" in fields.entries
        else NO_BUDGET,
    )


def _named(entries: dict[str, Place], build: Callable[[str, Place], T]) -> dict[str, T]:
    return {name: build(name, place) for name, place in entries.items()}


def _alias(place: Place, providers: dict[str, Provider]) -> tuple[Deployment, ...]:
    items = place.items()
    deployments = tuple(_deployment(item, providers) for item in items)
    names = [deployment.name for deployment in deployments]
    for number, item in enumerate(items):
        if names[number] in names[:number] and "?" not in names[number]:
            item.fault(f"'{names[number]}' stands twice in this alias: remove one, or raise its weight")
    if not items and place.is_list():
        place.fault("an alias needs at least one deployment")
    return deployments


def _deployment(place: Place, providers: dict[str, Provider]) -> Deployment:
    required = ("provider", "model", "context_tokens", "max_output_tokens")
    fields = place.fields(DEPLOYMENT_KEYS, required=required)
    at = fields.entries.get("provider")
    provider = providers.get(at.name_of(providers, "provider") if at else "")
    model = fields.text("model") or "?"
    context_tokens = fields.whole("context_tokens", high=100_000_000) or 1
    max_output_tokens = fields.whole("max_output_tokens", high=100_000_000) or 1
    if "max_output_tokens" in fields.entries and max_output_tokens > context_tokens:
        fields.entries["max_output_tokens"].fault(f"it is over context_tokens ({context_tokens}): lower it")
    weight = fields.whole("weight", low=0, high=1_000_000)
    return Deployment(
        name=f"{provider.name if provider else '?'}/{model}",
        provider=provider or Provider("?", "openai", ""),
        model=model,
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
        weight=1 if weight is None else weight,
        price=price_of(fields.entries["price"]) if "price" in fields.entries else None,
        tokenizer=fields.choice("tokenizer", get_args(Tokenizer)),
        service_tier=fields.choice("service_tier", SERVICE_TIERS[provider.dialect]) if provider else None,
        answers_as=_texts(fields.entries.get("answers_as")),
    )


def _texts(place: Place | None) -> tuple[str, ...]:
    if place is None:
        return ()
    return (place.text(),) if place.is_scalar() else tuple(item.text() for item in place.items())


def _check_same_everywhere(places: dict[str, Place], aliases: dict[str, tuple[Deployment, ...]]) -> None:
    """A deployment is one thing: only its weight may differ from alias to alias."""
    first: dict[str, Deployment] = {}
    for alias, deployments in aliases.items():
        for number, deployment in enumerate(deployments):
            known = first.setdefault(deployment.name, deployment)
            if "?" not in deployment.name and replace(known, weight=deployment.weight) != deployment:
                item = places[alias].items()[number]
                item.fault(
                    f"'{deployment.name}' has other limits or prices in another alias: state the same ones"
                )


def _task(name: str, place: Place, aliases: Collection[str]) -> TaskRule:
    fields = place.fields(TASK_KEYS, required=("default",))
    default = fields.entries.get("default")
    return TaskRule(
        name=name,
        default=default.name_of(aliases, "alias") if default else "",
        fallback=_one_or_more(fields.entries.get("fallback"), aliases),
        max_latency_ms=fields.whole("max_latency_ms", high=86_400_000),
        max_cost_usd=fields.amount("max_cost_usd"),
        requires_citations=fields.truth("requires_citations", default=False),
        max_output_tokens=fields.whole("max_output_tokens", high=100_000_000),
        cache_ttl_s=fields.whole("cache_ttl_s", low=0, high=31_536_000) or 0,
    )


def _one_or_more(place: Place | None, aliases: Collection[str]) -> tuple[str, ...]:
    if place is None:
        return ()
    if place.is_scalar():
        return (place.name_of(aliases, "alias"),)
    return tuple(item.name_of(aliases, "alias") for item in place.items())


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
            said[name] = frozenset(_one_or_more(fields.entries[name], aliases))
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


def _tenant(
    name: str, place: Place, tiers: dict[str, Tier], known: tuple[Collection[str], Collection[str]]
) -> Tenant:
    """`acme: pro`, or a mapping: its tier, its zone, its own limits; `known`: aliases, tasks."""
    if place.is_scalar():
        return Tenant(name, tiers.get(place.name_of(tiers, "tier")) or Tier("?"))
    fields = place.fields(("tier", "zone", *LIMIT_KEYS), required=("tier",))
    at = fields.entries.get("tier")
    tier = tiers.get(at.name_of(tiers, "tier") if at else "") or Tier("?")
    return Tenant(name, _limited(fields, tier, *known), zone=_zone(fields))


def _zone(fields: Fields) -> str:
    zone = fields.text("zone") or "UTC"
    if zone != "UTC" and zone not in zoneinfo.available_timezones():
        fields.entries["zone"].fault(f"there is no time zone '{zone}', write one like Europe/Berlin or UTC")
    return zone


def _check_task_name(place: Place, name: str) -> None:
    _check_name(place, name, _TASK_NAME, "a task")
    if name.startswith(CONTROL_PREFIX):
        place.fault(f"tasks that begin with '{CONTROL_PREFIX}' are the fleet's own: choose another name")


def _check_name(place: Place, name: str, pattern: TypeAdapter[str], what: str) -> None:
    try:
        pattern.validate_python(name)
    except ValidationError:
        place.fault(f"no job can name {what} '{name}': start with a letter and use letters, digits and _ . -")
