"""What the demo found: each tenant's jobs, tokens, cost and latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from producer_sdk.contract import Job, JobResult


@dataclass(frozen=True)
class TenantReport:
    """One tenant. `outcomes` counts jobs by status, `refusals` those that ended without an answer by code."""

    tenant: str
    jobs: int
    outcomes: dict[str, int]
    refusals: dict[str, int]
    exact_hits: int
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal
    p50_ms: int | None
    p95_ms: int | None

    def as_json(self) -> dict[str, Any]:
        """Plain values; money as text, so that no digit is lost."""
        return {**asdict(self), "cost_usd": f"{self.cost_usd:f}", "saved_usd": f"{self.saved_usd:f}"}


def tenant_reports(jobs: Sequence[Job], results: Mapping[UUID, JobResult]) -> list[TenantReport]:
    """One report a tenant, by name; latency is that of the answered jobs, from take to result."""
    tenants = sorted({job.tenant for job in jobs})
    return [_of(tenant, [results[job.job_id] for job in jobs if job.tenant == tenant]) for tenant in tenants]


def _of(tenant: str, results: Sequence[JobResult]) -> TenantReport:
    answered = sorted(result.latency_ms for result in results if result.status == "succeeded")
    return TenantReport(
        tenant=tenant,
        jobs=len(results),
        outcomes=dict(Counter(result.status for result in results)),
        refusals=dict(Counter(str(result.error.code) for result in results if result.error)),
        exact_hits=sum(result.cache == "exact" for result in results),
        input_tokens=sum(result.usage.input_tokens for result in results),
        cache_read_tokens=sum(result.usage.cache_read_tokens for result in results),
        output_tokens=sum(result.usage.output_tokens for result in results),
        cost_usd=_sum(result.cost_usd for result in results),
        saved_usd=_sum(result.saved_usd for result in results),
        p50_ms=percentile(answered, 50),
        p95_ms=percentile(answered, 95),
    )


def percentile(ordered: Sequence[int], percent: int) -> int | None:
    """The nearest-rank percentile of values in order; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
