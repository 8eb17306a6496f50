"""What differs between two routing.yaml files for tenants and their plans, for `fairlane routing diff`.

Tenants that a change means the same for are one group: a tier of a thousand tenants is one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from worker.policy.rules import aliases_for
from worker.routing_file import Deployment, RoutingFile, Strategy, TaskRule, Tenant, Tier

EVERYBODY = "(every other tenant)"  # whom the default tier takes
_PLANNED = ("allow", "deny", "replace", "name")  # of a tier: what they mean stands in the plans
Values = dict[str, str]


@dataclass(frozen=True)
class Change:
    """One value that is another one now. None: it is not there."""

    what: str
    old: str | None
    new: str | None

    def said(self) -> str:
        """In words."""
        if self.old is None:
            return f"{self.what} is new" + (f": {self.new}" if self.new else "")
        if self.new is None:
            return f"{self.what} is gone" + (f": {self.old}" if self.old else "")
        return f"{self.what}: {self.old} → {self.new}"


@dataclass(frozen=True)
class Group:
    """The same changes for all of these tenants, in all of these tasks (none: in what they may do at all)."""

    tenants: tuple[str, ...]
    tiers: tuple[str, ...]
    tasks: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Difference:
    """`fleet`: what is nobody's alone. `groups`: who is met by what, the most tenants first."""

    fleet: tuple[Change, ...]
    groups: tuple[Group, ...]

    @property
    def is_none(self) -> bool:
        """Whether nothing changes for anybody."""
        return not self.fleet and not self.groups


def difference(old: RoutingFile, new: RoutingFile) -> Difference:
    """What a change from `old` to `new` means."""
    names = [*sorted(set(old.tenants) | set(new.tenants)), EVERYBODY]
    plans, tasks = _Plans(old, new), sorted(set(old.tasks) & set(new.tasks))
    met: dict[tuple[Change, ...], dict[str, list[str]]] = {}
    tier_of: dict[str, str] = {}
    for name in names:
        was, now = _tenant(old, name), _tenant(new, name)
        if was is None and now is None:
            continue
        tier_of[name] = (now or was).tier.name  # type: ignore[union-attr]
        own = _of_tenant(was, now)
        if own:
            met.setdefault(own, {}).setdefault(name, [])
        if was and now:
            for task in tasks:
                found = plans.changes(task, was.tier, now.tier)
                if found:
                    met.setdefault(found, {}).setdefault(name, []).append(task)
    return Difference(_fleet_changes(old, new), tuple(_grouped(met, tier_of)))


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """Every value that differs, in the order of their names."""
    return tuple(
        Change(name, old.get(name), new.get(name))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    )


def _tenant(routing: RoutingFile, name: str) -> Tenant | None:
    """The tenant as the file has it."""
    if name != EVERYBODY:
        return routing.tenant(name)
    return Tenant(name, routing.tiers[routing.default_tier]) if routing.default_tier else None


class _Plans:
    """What changes in plans; tenants that may use the same aliases share the answer."""

    def __init__(self, old: RoutingFile, new: RoutingFile) -> None:
        self._old, self._new = old, new
        self._known: dict[tuple[Any, ...], tuple[Change, ...]] = {}

    def changes(self, task: str, was: Tier, now: Tier) -> tuple[Change, ...]:
        """What changes for jobs of this task, from a tier of the old file to one of the new one."""
        key = (
            task,
            *(one for tier in (was, now) for one in (tier.allow, tier.deny, tuple(tier.replace.items()))),
        )
        if key not in self._known:
            old, new = self._old.tasks[task], self._new.tasks[task]
            self._known[key] = changes(_plan_values(self._old, old, was), _plan_values(self._new, new, now))
        return self._known[key]


def _plan_values(routing: RoutingFile, task: TaskRule, tier: Tier) -> Values:
    allowed, denied = aliases_for(task, tier)
    found = {"aliases": ", ".join(allowed) or "none"}
    if denied:
        found["denied"] = ", ".join(denied)
    for field in fields(task):
        if field.name not in ("name", "default", "fallback"):
            found |= _values(field.name, getattr(task, field.name))
    for alias in allowed:
        strategy = routing.strategies.get(alias, "weighted")
        found[f"{alias}: strategy"] = strategy
        for place, deployment in enumerate(routing.aliases[alias], start=1):
            found |= _deployment_values(
                f"{alias}: {deployment.name}", deployment, _order(deployment, place, strategy)
            )
    return found


def _order(deployment: Deployment, place: int, strategy: Strategy) -> str:
    """What says when it is tried: its weight, or its place in the file."""
    if strategy == "ordered":
        return f"place {place}"
    return f"weight {deployment.weight}" if deployment.weight else f"weight 0, place {place}"


def _deployment_values(name: str, deployment: Deployment, order: str) -> Values:
    provider, found = deployment.provider, {name: order}
    for field in fields(deployment):
        if field.name not in ("name", "provider", "model", "weight"):
            found |= _values(f"{name} {field.name}", getattr(deployment, field.name))
    for field in fields(provider):
        if field.name not in ("name", "budget"):
            found |= _values(f"{name} provider's {field.name}", getattr(provider, field.name))
    return found


def _of_tenant(was: Tenant | None, now: Tenant | None) -> tuple[Change, ...]:
    """What it may do beside its plans; of one that comes or goes, only that."""
    if was and now:
        return changes(_tenant_values(was), _tenant_values(now))
    return changes(*({"tenant": f"of tier {one.tier.name}"} if one else {} for one in (was, now)))


def _tenant_values(tenant: Tenant) -> Values:
    found = {"tenant": f"of tier {tenant.tier.name}", "zone": tenant.zone} | _values("keys", tenant.keys)
    if tenant.own_keys_only:
        found["own_keys_only"] = "true"
    for field in fields(tenant.tier):
        if field.name not in _PLANNED:
            found |= _values(field.name, getattr(tenant.tier, field.name))
    return found


def _fleet_changes(old: RoutingFile, new: RoutingFile) -> tuple[Change, ...]:
    """Budgets of everybody, and tasks that come and go."""
    return changes(_fleet_values(old), _fleet_values(new))


def _fleet_values(routing: RoutingFile) -> Values:
    found = _values("fleet", routing.fleet)
    for name, provider in routing.providers.items():
        found |= _values(f"provider {name} budget", provider.budget)
    return found | {f"task {name}": "" for name in routing.tasks}


def _values(name: str, value: Any) -> Values:
    """A value as text by its dotted name; what is not stated is left out."""
    if is_dataclass(value) and not isinstance(value, type):
        found: Values = {}
        for field in fields(value):
            found |= _values(f"{name}.{field.name}", getattr(value, field.name))
        return found
    if isinstance(value, Mapping):
        found = {}
        for key, one in value.items():
            found |= _values(f"{name}.{key}", one)
        return found
    if value is None or value in ((), frozenset()):
        return {}
    if isinstance(value, frozenset | tuple):
        return {name: ", ".join(map(str, sorted(value) if isinstance(value, frozenset) else value))}
    return {name: str(value)}


def _grouped(
    met: Mapping[tuple[Change, ...], Mapping[str, list[str]]], tier_of: Mapping[str, str]
) -> Iterator[Group]:
    groups = []
    for found, tasks_of in met.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for tenant, tasks in tasks_of.items():
            alike.setdefault(tuple(tasks), []).append(tenant)
        for same, tenants in alike.items():
            tiers = tuple(sorted({tier_of[tenant] for tenant in tenants}))
            groups.append(Group(tuple(tenants), tiers, same, found))
    yield from sorted(groups, key=lambda group: (-len(group.tenants), group.tenants, group.tasks))
