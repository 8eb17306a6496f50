"""Loads routing.yaml: every value checked, every name resolved, each mistake one sentence with its place.

The seed's own notation loads as it stands: a mapping of tasks without a `tasks:` key supplies the tasks, and
everything else comes from the routing.yaml in the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from worker.errors import ConfigError
from worker.routing_file import NO_BUDGET, RoutingFile
from worker.routing_load.aliases import alias_of, check_same_everywhere
from worker.routing_load.budgets import BUDGET_KEYS, budget_of
from worker.routing_load.kinds import check_aliases, check_tasks, check_tiers
from worker.routing_load.providers import provider_of
from worker.routing_load.tasks import check_task_name, check_tenant_name, task_of
from worker.routing_load.tiers import tenant_of, tier_of
from worker.routing_load.yaml_nodes import Faults, Place, read_root

SECTIONS = ("providers", "aliases", "tasks", "tiers", "tenants", "default_tier", "fleet")
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The bytes of a routing.yaml, wherever they came from; `name` is how its faults call it.

    `around`: the packaged file's bytes, where `content` has tasks alone; None: those of this package, if they are
    needed.
    """

    name: str
    content: bytes
    around: bytes | None = None


def load(path: Path) -> RoutingFile:
    """The file as values. Raises ConfigError: one sentence with the place, what is wrong and what is right."""
    return load_source(source_of(path))[0]


def source_of(path: Path) -> Source:
    """The file's bytes, not yet looked at. Raises ConfigError."""
    try:
        return Source(path.name, path.read_bytes())
    except OSError as error:
        raise ConfigError(_unreadable(path, error)) from error


def load_source(source: Source) -> tuple[RoutingFile, Source]:
    """The values, and the source with all that they came from. Raises ConfigError as `load` does."""
    whole, faults = _read(source)
    if whole is None:
        more = f" (and {len(faults) - 1} more: fairlane routing check)" if len(faults) > 1 else ""
        raise ConfigError(faults[0] + more)
    return whole


def check(path: Path, *, local_url: str | None = None) -> list[str]:
    """Every mistake of the file, one sentence each; none when it loads. `local_url`: FAIRLANE_LOCAL_URL's value."""
    try:
        source = source_of(path)
    except ConfigError as error:
        return [str(error)]
    return _read(source, local_url)[1]


def packaged_routing() -> Path:
    """The routing.yaml that comes with the package."""
    package = Path(__file__).parent.parent
    inside = package / "routing.yaml"
    return inside if inside.is_file() else package.parent / "routing.yaml"


def _unreadable(path: Path, error: OSError) -> str:
    return (
        f"{path.name}:1:1: the file cannot be read ({error.strerror}): set FAIRLANE_ROUTING to a routing.yaml"
    )


def _read(
    source: Source, local_url: str | None = None
) -> tuple[tuple[RoutingFile, Source] | None, list[str]]:
    faults = Faults(source.name)
    root = read_root(source.content, faults)
    if root is None:
        return None, faults.found
    version = hashlib.sha256(source.content)
    entries = root.entries()
    if entries and not set(entries) & set(SECTIONS):
        packaged = packaged_routing().read_bytes() if source.around is None else source.around
        source = replace(source, around=packaged)
        version.update(packaged)
        around, _source = load_source(Source("routing.yaml", packaged))
        routing = replace(
            around, tasks=_named(entries, lambda name, task: task_of(name, task, around.aliases))
        )
        for name, task in entries.items():
            check_task_name(task, name)
        check_tasks(entries, routing.tasks, around.aliases)
    else:
        source = replace(source, around=b"")
        routing = _whole_file(root, local_url)
    if faults.found:
        return None, faults.found
    return (replace(routing, version=version.hexdigest()[:12]), source), []


def _whole_file(root: Place, local_url: str | None) -> RoutingFile:
    fields = root.fields(SECTIONS, required=("providers", "aliases", "tasks", "tiers"))
    providers = _named(
        fields.entries_of("providers"), lambda name, place: provider_of(name, place, local_url=local_url)
    )
    aliases = _named(fields.entries_of("aliases"), lambda _name, alias: alias_of(alias, providers))
    check_same_everywhere(aliases.values())
    deployments = {name: alias.deployments for name, alias in aliases.items()}
    check_aliases({name: alias.places for name, alias in aliases.items()}, deployments)
    tasks_at, tiers_at, tenants_at = (fields.entries_of(name) for name in ("tasks", "tiers", "tenants"))
    tasks = _named(tasks_at, lambda name, task: task_of(name, task, aliases))
    for name, task in tasks_at.items():
        check_task_name(task, name)
    check_tasks(tasks_at, tasks, deployments)
    tiers = _named(tiers_at, lambda name, tier: tier_of(name, tier, aliases, tasks))
    tenants = _named(
        tenants_at, lambda name, tenant: tenant_of(name, tenant, tiers, (aliases, tasks), providers=providers)
    )
    check_tiers(tiers_at, tiers, deployments)
    check_tiers(tenants_at, {name: tenant.tier for name, tenant in tenants.items()}, deployments)
    for name, tenant in tenants_at.items():
        check_tenant_name(tenant, name)
    default_tier = fields.entries.get("default_tier")
    if not tenants and default_tier is None:
        root.fault("there is no tenant: add 'tenants', or a 'default_tier' for those not declared")
    return RoutingFile(
        version="",
        providers=providers,
        aliases=deployments,
        tasks=tasks,
        tiers=tiers,
        tenants=tenants,
        default_tier=default_tier.name_of(tiers, "tier") if default_tier else None,
        fleet=budget_of(fields.entries["fleet"].fields(BUDGET_KEYS))
        if "fleet" in fields.entries
        else NO_BUDGET,
        strategies={name: alias.strategy for name, alias in aliases.items() if alias.strategy != "weighted"},
    )


def _named(entries: dict[str, Place], build: Callable[[str, Place], T]) -> dict[str, T]:
    return {name: build(name, place) for name, place in entries.items()}
