"""What a tenant may do in the lanes, as the scripts are told it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

FIELDS_A_SCRIPT = 500


@dataclass(frozen=True)
class TaskLimits:
    """Limits of one task of one tenant, beside the tenant's own. None: no limit of its own."""

    concurrency: int | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None


@dataclass(frozen=True)
class TenantLimits:
    """Limits of one tenant, both lanes together, fleet-wide. None: no limit.

    `burst_s`: for how many seconds an unused allowance is saved up. `max_pending`: how many jobs may wait before
    `queue_full`. `weight`: the tenant's share of tokens while others wait too, relative to theirs.
    """

    concurrency: int = 1
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    burst_s: float = 6.0
    max_pending: int | None = None
    weight: float = 1.0
    tasks: Mapping[str, TaskLimits] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """Everybody's limits; `default` is for tenants that are not named."""

    default: TenantLimits
    tenants: Mapping[str, TenantLimits]

    def fields(self) -> list[tuple[str, str]]:
        """What set_limits.lua is given: names and JSON."""
        named = [(f"of:{name}", _told(limits)) for name, limits in self.tenants.items()]
        return [("default", _told(self.default)), *named]

    def pages(self) -> Iterator[list[str | int]]:
        """The arguments of each call of set_limits.lua."""
        fields = self.fields()
        version = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]
        for at in range(0, len(fields), FIELDS_A_SCRIPT):
            is_last = int(at + FIELDS_A_SCRIPT >= len(fields))
            page = fields[at : at + FIELDS_A_SCRIPT]
            yield [version, is_last, *(text for pair in page for text in pair)]


def _told(limits: TenantLimits) -> str:
    tasks = {name: _numbers(task) | {"burst_s": limits.burst_s} for name, task in limits.tasks.items()}
    own = {"burst_s": limits.burst_s, "pending": limits.max_pending, "weight": limits.weight}
    told = _numbers(limits) | {name: value for name, value in own.items() if value is not None}
    return json.dumps(told | {"tasks": tasks}, separators=(",", ":"))


def _numbers(limits: TenantLimits | TaskLimits) -> dict[str, Any]:
    said = {
        "slots": limits.concurrency,
        "requests": limits.requests_per_min,
        "tokens": limits.tokens_per_min,
    }
    return {name: value for name, value in said.items() if value is not None}
