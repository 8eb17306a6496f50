"""A tenant's token buckets as a dictionary."""

from __future__ import annotations

import math
from collections.abc import Mapping

from producer_sdk.lanes import TaskLimits, TenantLimits


class Buckets:
    """What is left of a scope's requests and tokens."""

    def __init__(self, limits: Mapping[str, TenantLimits]) -> None:
        self.limits = limits
        self.set_back = 0  # when the clock went back, by the clock that it is now
        self.kept: dict[tuple[str, str], tuple[int, dict[str, float]]] = {}

    def of(self, flow: str, tenant: str) -> tuple[TenantLimits | TaskLimits, dict[str, tuple[int, float]]]:
        """The scope's limits; of each that is set, what comes a minute, and the most that is saved up."""
        tenants = self.limits[tenant]
        limits = tenants.tasks[flow] if flow else tenants
        rates = {"requests": limits.requests_per_min, "tokens": limits.tokens_per_min}
        return limits, {
            kind: (rate, max(1, rate * tenants.burst_s / 60)) for kind, rate in rates.items() if rate
        }

    def left(self, flow: str, tenant: str, now: int) -> dict[str, float]:
        """Refilled up to now."""
        at, levels = self.kept.get((flow, tenant), (now, {}))
        passed = max(0, now - (at if at <= now + 60_000 else self.set_back))
        return {
            kind: min(burst, levels.get(kind, burst) + passed * rate / 60000)
            for kind, (rate, burst) in self.of(flow, tenant)[1].items()
        }

    def wait(self, flow: str, tenant: str, tokens: int, now: int) -> int:
        """In how many ms a job of so many tokens may go."""
        left, needs = self.left(flow, tenant, now), {"requests": 1, "tokens": tokens}
        waits = [
            math.ceil((min(needs[kind], burst) - left[kind]) * 60000 / rate - 1e-6)
            for kind, (rate, burst) in self.of(flow, tenant)[1].items()
        ]
        return max(0, *waits, 0)

    def draw(self, flow: str, tenant: str, now: int, *, requests: int = 0, tokens: int = 0) -> None:
        """Take, or give back."""
        drawn, left = {"requests": requests, "tokens": tokens}, self.left(flow, tenant, now)
        bursts = {kind: burst for kind, (_rate, burst) in self.of(flow, tenant)[1].items()}
        rates = {kind: rate for kind, (rate, _burst) in self.of(flow, tenant)[1].items()}
        levels = {
            kind: max(-60 * rates[kind], min(bursts[kind], level - drawn[kind]))
            for kind, level in left.items()
        }
        self.kept[flow, tenant] = now, levels
