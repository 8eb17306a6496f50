"""What routing.yaml lets tenants do, in the lanes' words."""

from __future__ import annotations

from producer_sdk.lanes import Limits, TaskLimits, TenantLimits
from worker.routing_file import RoutingFile, Tier


def lane_limits(routing: RoutingFile) -> Limits:
    """Everybody's limits. A tenant that no tier takes gets one slot to be refused in."""
    default = routing.tiers[routing.default_tier] if routing.default_tier else None
    return Limits(
        default=_of_tier(default) if default else TenantLimits(),
        tenants={tenant.name: _of_tier(tenant.tier) for tenant in routing.tenants.values()},
    )


def _of_tier(tier: Tier) -> TenantLimits:
    return TenantLimits(
        concurrency=tier.concurrency,
        requests_per_min=tier.requests_per_min,
        tokens_per_min=tier.tokens_per_min,
        burst_s=float(tier.burst_s),
        max_pending=tier.max_pending,
        weight=float(tier.weight),
        tasks={
            name: TaskLimits(share.concurrency, share.requests_per_min, share.tokens_per_min)
            for name, share in tier.tasks.items()
        },
    )
