"""The plan that a job would get now, by the very rules that workers plan with, for `fairlane routing show`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from producer_sdk.contract import GenerationParams, Job, JobError, Message, Usage, to_usd
from worker.errors import JobStopped
from worker.health import rules as health
from worker.health.rules import View
from worker.job_run import Answer, JobRun, Lease, PlannedCall
from worker.policy.rules import aliases_for
from worker.policy.step import ApplyPolicy
from worker.rate_card import RateCard
from worker.routing import own_keys, rules
from worker.routing.tokens import InputBound
from worker.routing_file import Kind, Provider, RoutingFile, Tenant


@dataclass(frozen=True)
class Asked:
    """A job that is only looked at. `job_id` None: always the same one."""

    tenant: str
    task: str
    input_tokens: int = 1000
    max_output_tokens: int | None = None
    job_id: UUID | None = None

    def job(self, kind: Kind = "chat") -> Job:
        """As a producer would submit it. Raises ValueError (pydantic's) for names that no job can have."""
        is_chat = kind == "chat"
        return Job(
            tenant=self.tenant,
            task=self.task,
            messages=[Message(role="user", content="-")] if is_chat else [],
            inputs=[] if is_chat else ["-"],
            params=GenerationParams(max_output_tokens=self.max_output_tokens if is_chat else None),
            job_id=self.job_id or uuid5(NAMESPACE_URL, f"{self.tenant}/{self.task}"),
        )


@dataclass(frozen=True)
class ShownPlan:
    """What would happen. `error`: why the job would end; `wait_s`: for how long it would be put back first."""

    aliases: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    calls: tuple[PlannedCall, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    despite: frozenset[str] = frozenset()
    max_output_tokens: int = 0
    wait_s: float | None = None
    error: JobError | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    strategies: Mapping[str, str] = field(default_factory=dict)  # by alias


async def plan_shown(
    asked: Asked,
    routing: RoutingFile,
    *,
    cards: Mapping[str, RateCard],
    missing: Mapping[str, str],
    why_no_key: Callable[[Provider, Tenant], str | None],
    view: View | None,
) -> ShownPlan:
    """The plan; `why_no_key` as PlanRoute's; `view` None: nobody knows how the deployments stand."""
    rule = routing.tasks.get(asked.task)
    run = JobRun(asked.job(rule.kind if rule else "chat"), Lease("", math.inf), routing)
    run.messages = tuple(run.job.messages)
    try:
        await ApplyPolicy().run(run, _stay)
    except JobStopped as stopped:
        return ShownPlan(error=stopped.error)
    task, tenant = run.known_task(), run.known_tenant()
    _allowed, denied = aliases_for(task, tenant.tier)
    bounds = dict.fromkeys(routing.deployments(), InputBound(asked.input_tokens, asked.input_tokens))
    keyless = own_keys.missing(run, missing, why_no_key=why_no_key)
    planned = rules.plan(
        run,
        cards=cards,
        missing=keyless,
        passing=own_keys.passing(run, keyless, missing),
        bounds=bounds,
        speeds=view.speeds if view else {},
        left_ms=math.inf if task.max_latency_ms is None else task.max_latency_ms,
    )
    calls = own_keys.marked(planned.plan, tenant).calls
    left_out = planned.plan.left_out + _denied(routing, run.aliases, denied, tenant.tier.name)
    shown = ShownPlan(
        aliases=run.aliases,
        denied=denied,
        calls=calls,
        left_out=left_out,
        max_output_tokens=planned.max_output_tokens,
        error=planned.error,
        limits=_limits(run),
        strategies={alias: routing.strategies.get(alias, "weighted") for alias in run.aliases},
    )
    return shown if view is None or planned.error else _sifted(shown, view)


def _sifted(shown: ShownPlan, view: View) -> ShownPlan:
    """What the deployments' health leaves of it."""
    found = health.sift(shown.calls, view, age_s=0.0, left_s=math.inf, waited_ms=0, jitter=0.0)
    return ShownPlan(
        **vars(shown)
        | {
            "calls": found.calls,
            "left_out": (*shown.left_out, *found.left_out),
            "despite": found.despite,
            "wait_s": found.hand_back_s,
            "error": found.error,
        }
    )


def _denied(
    routing: RoutingFile, aliases: tuple[str, ...], denied: tuple[str, ...], tier: str
) -> tuple[tuple[str, str], ...]:
    """The deployments that only aliases have which the tenant may not use."""
    usable = {one.name for alias in aliases for one in routing.aliases[alias]}
    return tuple(
        (one.name, f"tier '{tier}' may not use {alias}")
        for alias in denied
        for one in routing.aliases[alias]
        if one.name not in usable
    )


def _limits(run: JobRun) -> dict[str, Any]:
    """What holds for the job and its tenant; what is not limited is left out."""
    task, tier = run.known_task(), run.known_tenant().tier
    found = {
        "max_latency_ms": task.max_latency_ms,
        "max_cost_usd": task.max_cost_usd,
        "daily_budget_usd": tier.daily_budget_usd,
        "monthly_budget_usd": tier.monthly_budget_usd,
        "run_budget_usd": tier.run_budget_usd,
        "concurrency": tier.concurrency,
        "requests_per_min": tier.requests_per_min,
        "tokens_per_min": tier.tokens_per_min,
        "max_pending": tier.max_pending,
        "weight": tier.weight,
    }
    return {name: value for name, value in found.items() if value is not None}


def call_told(call: PlannedCall, plan: ShownPlan, *, input_tokens: int) -> dict[str, Any]:
    """One call as JSON. `cost_low_usd` is what its input alone costs, uncached; `cost_high_usd` what is reserved.

    With a tenant's own key both are 0.
    """
    low = 0 if call.own_key else call.card.cost(Usage(input_tokens=input_tokens))
    siblings = [one for one in plan.calls if one.alias == call.alias]
    strategy = plan.strategies[call.alias]
    weights = sum(one.deployment.weight for one in siblings) if strategy == "weighted" else 0
    return {
        "deployment": call.deployment.name,
        "alias": call.alias,
        "strategy": strategy,
        "first_share": round(call.deployment.weight / weights, 3) if weights else None,
        "cost_low_usd": to_usd(low),
        "cost_high_usd": to_usd(call.highest_pico),
        "latency_ms": call.predicted_ms,
        "own_key": call.own_key,
        "tried_though": "its breaker is open" if call.deployment.name in plan.despite else None,
    }


async def _stay(_run: JobRun) -> Answer:
    return Answer("", Usage(), "", "", "", cost_pico=0, latency_ms=0)
