"""Which deployments of a plan have a key for this tenant, and which are called with a key of its own. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from worker.job_run import JobRun, Plan, PlannedCall
from worker.routing_file import Provider, Tenant


def missing(
    job_run: JobRun,
    for_all: Mapping[str, str],
    *,
    why_no_key: Callable[[Provider, Tenant], str | None],
) -> dict[str, str]:
    """Why each deployment of the job's aliases cannot be used: by anybody, or by this tenant for want of a key."""
    tenant, found = job_run.known_tenant(), dict[str, str]()
    keyless: dict[str, str | None] = {}
    for alias in job_run.aliases:
        for deployment in job_run.routing.aliases[alias]:
            provider = deployment.provider
            if provider.name not in keyless:
                keyless[provider.name] = why_no_key(provider, tenant)
            why = for_all.get(deployment.name) or keyless[provider.name]
            if why is not None:
                found[deployment.name] = why
    return found


def passing(job_run: JobRun, missing: Mapping[str, str], for_all: Mapping[str, str]) -> frozenset[str]:
    """Those of the missing whose key is only not in its file just now."""
    tenant, routing = job_run.known_tenant(), job_run.routing
    left_out = (d for alias in job_run.aliases for d in routing.aliases[alias] if d.name in missing)
    return frozenset(
        one.name for one in left_out if one.name not in for_all and _is_in_a_file(one.provider, tenant)
    )


def _is_in_a_file(provider: Provider, tenant: Tenant) -> bool:
    own = tenant.keys.get(provider.name)
    if own or tenant.own_keys_only:
        return own is not None and own.file is not None
    return provider.key_file is not None


def marked(plan: Plan, tenant: Tenant) -> Plan:
    """The plan in which calls with the tenant's own key say so, and cost nothing of ours."""
    return replace(plan, calls=tuple(charged(call, tenant) for call in plan.calls)) if tenant.keys else plan


def charged(call: PlannedCall, tenant: Tenant) -> PlannedCall:
    """The call at what it may cost us: nothing where the tenant pays for it itself."""
    own = call.deployment.provider.name in tenant.keys
    return replace(call, own_key=True, highest_pico=0) if own else call
