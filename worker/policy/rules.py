"""What a job may do: its tenant, its task, the aliases left after the tier's word, and its limits."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pydantic import JsonValue

from producer_sdk.contract import ErrorCode, Job, JobError
from worker.routing_file import RoutingFile, TaskRule, Tenant, Tier


@dataclass(frozen=True)
class Permission:
    """What the routing file allows this job. `denied` names the aliases that the tier took away."""

    tenant: Tenant
    task: TaskRule
    aliases: tuple[str, ...]
    denied: tuple[str, ...]
    max_output_tokens: int


def permit(job: Job, routing: RoutingFile) -> Permission | JobError:
    """What the job may do, or why it may do nothing."""
    tenant = routing.tenant(job.tenant)
    if tenant is None:
        hint = nearest(job.tenant, routing.tenants)
        message = (
            f"there is no tenant '{job.tenant}'{hint}: declare it in routing.yaml, or set a default_tier"
        )
        return JobError.of(ErrorCode.UNKNOWN_TENANT, message)
    task = routing.tasks.get(job.task)
    if task is None:
        hint = nearest(job.task, routing.tasks)
        return JobError.of(
            ErrorCode.UNKNOWN_TASK, f"there is no task '{job.task}'{hint}: declare it in routing.yaml"
        )
    other_kind = _other_kind(job, task, routing)
    if other_kind:
        return other_kind
    allowed, denied = aliases_for(task, tenant.tier)
    if not allowed:
        message = (
            f"tier '{tenant.tier.name}' denies every model of task '{task.name}' ({', '.join(denied)}): "
            "allow one of them for this tier, or give the task a fallback that it may use"
        )
        return JobError.of(ErrorCode.POLICY_DENIED, message)
    most = 0 if task.kind == "embedding" else _most_output(job, task, tenant.tier)
    return Permission(tenant, task, allowed, denied, most)


def _other_kind(job: Job, task: TaskRule, routing: RoutingFile) -> JobError | None:
    """A job with inputs asks for vectors, one with messages for an answer."""
    kind = "embedding" if job.inputs else "chat"
    if kind == task.kind:
        return None
    fitting = ", ".join(sorted(one.name for one in routing.tasks.values() if one.kind == kind))
    named = f"a task of its kind ({fitting})" if fitting else "a task of its kind: there is none yet"
    if job.inputs:
        message = (
            f"task '{task.name}' answers messages and the job has inputs: send messages, or name {named}"
        )
    else:
        message = (
            f"task '{task.name}' makes vectors of inputs and the job has messages: send inputs "
            f"(`fleet.embed`), or name {named}"
        )
    return JobError.of(ErrorCode.INVALID_JOB, message, reason="kind")


def told(permission: Permission, *, deadline_in_s: float) -> dict[str, JsonValue]:
    """What the job's story says of it."""
    task, tier = permission.task, permission.tenant.tier
    asked = {alias: tier.replace[alias] for alias in (task.default, *task.fallback) if alias in tier.replace}
    return {
        "tier": tier.name,
        "task": task.name,
        "aliases": list(permission.aliases),
        "denied": list(permission.denied) or None,
        "replaced": [f"{alias} by {other}" for alias, other in asked.items()] or None,
        "max_output_tokens": permission.max_output_tokens or None,
        "max_cost_usd": None if task.max_cost_usd is None else f"{task.max_cost_usd:f}",
        "deadline_ms": int(deadline_in_s * 1000) if deadline_in_s < float("inf") else None,
    }


def aliases_for(task: TaskRule, tier: Tier) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The task's aliases as this tier has them, in order and once each: (allowed, denied)."""
    replaced = [tier.replace.get(alias, alias) for alias in (task.default, *task.fallback)]
    wanted = tuple(dict.fromkeys(replaced))
    allowed = tuple(alias for alias in wanted if is_allowed(alias, tier))
    return allowed, tuple(alias for alias in wanted if alias not in allowed)


def is_allowed(alias: str, tier: Tier) -> bool:
    """`deny` wins; an empty `allow` allows the rest."""
    return alias not in tier.deny and (not tier.allow or alias in tier.allow)


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a sentence that names what was probably meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _most_output(job: Job, task: TaskRule, tier: Tier) -> int:
    asked: Iterable[int | None] = (
        job.params.max_output_tokens,
        task.max_output_tokens,
        tier.max_output_tokens,
    )
    return min(limit for limit in asked if limit is not None)


def deadline(*, started: float, now: float, max_latency_ms: int | None, deadline_in_s: float | None) -> float:
    """When the whole chain must have ended, on the clock of `started` and `now` (seconds): the earlier limit."""
    limits = [float("inf")]
    if max_latency_ms is not None:
        limits.append(started + max_latency_ms / 1000)
    if deadline_in_s is not None:
        limits.append(now + deadline_in_s)
    return min(limits)


def end_of_stopped(stop: str, *, deliveries: int, unresolved_attempts: int) -> JobError:
    """How a job ends that its lane hands out only to be ended: cancelled, expired or dead."""
    if stop == "cancelled":
        return JobError.of(ErrorCode.CANCELLED, "the job was cancelled before it ran")
    if unresolved_attempts:
        return uncertain(unresolved_attempts)
    if stop == "expired":
        return past_deadline()
    message = (
        f"the job was delivered {deliveries} times and no worker lived to answer it: look for its id in the "
        "workers' logs, then submit it anew"
    )
    return JobError.of(ErrorCode.INTERNAL, message, reason="delivery_cap", retryable=False)


def past_deadline() -> JobError:
    """The end of a job that nobody called in time."""
    return JobError.of(
        ErrorCode.EXPIRED, "the job's deadline passed before it ran: submit it with a later one"
    )


def uncertain(attempts: int) -> JobError:
    """The end of a job whose earlier attempts have an unknown outcome and which may not be tried again."""
    message = (
        f"{attempts} attempt{'s' if attempts > 1 else ''} of this job may have been answered and billed before a "
        "worker was lost, and there is no time left for another: check the effect, then submit it anew if it is needed"
    )
    return JobError.of(ErrorCode.UNCERTAIN, message)
