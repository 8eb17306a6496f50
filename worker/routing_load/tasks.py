"""Tasks in routing.yaml, in the seed's words, and the names that jobs may give."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from producer_sdk.contract.control import CONTROL_PREFIX
from producer_sdk.contract.job import MOST_DIMENSIONS, TaskName, TenantName
from worker.routing_file import Kind, TaskRule
from worker.routing_load.yaml_nodes import Place

TASK_KEYS = (
    "default",
    "fallback",
    "max_latency_ms",
    "max_cost_usd",
    "requires_citations",
    "max_output_tokens",
    "cache_ttl_s",
    "hedge_after_ms",
    "kind",
    "dimensions",
)
_TASK_NAME: TypeAdapter[str] = TypeAdapter(TaskName)
_TENANT_NAME: TypeAdapter[str] = TypeAdapter(TenantName)


def task_of(name: str, place: Place, aliases: Collection[str]) -> TaskRule:
    """One task: the aliases to try in order, and its limits over the whole chain."""
    fields = place.fields(TASK_KEYS, required=("default",))
    default = fields.entries.get("default")
    return TaskRule(
        name=name,
        default=default.name_of(aliases, "alias") if default else "",
        fallback=one_or_more(fields.entries.get("fallback"), aliases),
        max_latency_ms=fields.whole("max_latency_ms", high=86_400_000),
        max_cost_usd=fields.amount("max_cost_usd"),
        requires_citations=fields.truth("requires_citations", default=False),
        max_output_tokens=fields.whole("max_output_tokens", high=100_000_000),
        cache_ttl_s=fields.whole("cache_ttl_s", low=0, high=31_536_000) or 0,
        hedge_after_ms=fields.whole("hedge_after_ms", high=86_400_000),
        kind=fields.choice("kind", get_args(Kind)) or "chat",
        dimensions=fields.whole("dimensions", high=MOST_DIMENSIONS),
    )


def one_or_more(place: Place | None, aliases: Collection[str]) -> tuple[str, ...]:
    """One alias, or a list of them."""
    if place is None:
        return ()
    if place.is_scalar():
        return (place.name_of(aliases, "alias"),)
    return tuple(item.name_of(aliases, "alias") for item in place.items())


def check_task_name(place: Place, name: str) -> None:
    """A name that jobs can give, and that is not the fleet's own."""
    _check_name(place, name, _TASK_NAME, "a task")
    if name.startswith(CONTROL_PREFIX):
        place.fault(f"tasks that begin with '{CONTROL_PREFIX}' are the fleet's own: choose another name")


def check_tenant_name(place: Place, name: str) -> None:
    """A name that jobs can give."""
    _check_name(place, name, _TENANT_NAME, "a tenant")


def _check_name(place: Place, name: str, pattern: TypeAdapter[str], what: str) -> None:
    try:
        pattern.validate_python(name)
    except ValidationError:
        place.fault(f"no job can name {what} '{name}': start with a letter and use letters, digits and _ . -")
