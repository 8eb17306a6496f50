"""The plan of a job: a pure function of the job, its limits and the prices, with a reason for what it leaves out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from producer_sdk.contract import MOST_VECTOR_BYTES, ErrorCode, JobError, Message, to_pico, usd_text
from producer_sdk.contract.vectors import BYTES_PER_NUMBER
from worker.job_run import JobRun, Plan, PlannedCall
from worker.rate_card import RateCard
from worker.routing.tokens import InputBound
from worker.routing_file import Deployment, EmbeddingLimits

_MOST_NAMED = 6
_UNBOUND = InputBound(0, 0)  # of what is left out before its size matters


class Cause(IntEnum):
    """Why a deployment is left out, from what only the operator can change to what the job can."""

    UNUSABLE = 0
    TOO_DEAR = 1
    TOO_LONG = 2
    OTHER_SHAPE = 3


@dataclass(frozen=True)
class LeftOut:
    """A deployment that is not tried, and why."""

    name: str
    cause: Cause
    reason: str


@dataclass(frozen=True)
class Planned:
    """The plan, the longest answer that it was made for, and what follows when it is empty."""

    plan: Plan
    max_output_tokens: int
    error: JobError | None = None


@dataclass(frozen=True)
class _Need:
    """What a deployment must take: so much input, so long an answer, within so much money (None: any)."""

    output: int
    limit_pico: int | None
    input_bound: int = 0
    input_at_least: int = 0


def usable(
    job_run: JobRun, *, cards: Mapping[str, RateCard], missing: Mapping[str, str]
) -> tuple[Deployment, ...]:
    """The deployments of the job's aliases that have a price and can be called: those whose input is bounded."""
    deployments = (d for alias in job_run.aliases for d in job_run.routing.aliases[alias])
    return tuple(d for d in deployments if d.name in cards and d.name not in missing)


def plan(
    job_run: JobRun,
    *,
    cards: Mapping[str, RateCard],
    missing: Mapping[str, str],
    bounds: Mapping[str, InputBound],
) -> Planned:
    """The deployments to try, in order: alias after alias, inside each by weight, the same for the same job.

    `missing` names deployments that cannot be used, each with its reason; `bounds` are those of all others. A job
    with a static prefix is drawn by that prefix's key, so that the provider's cache of it stays warm. The answer is
    as long as the first deployment can write it at most; one that cannot write so much is left out.
    """
    task, seed = job_run.known_task(), _seed(job_run)
    space = vector_space(job_run, cards=cards, missing=missing)
    limit = None if task.max_cost_usd is None else to_pico(task.max_cost_usd) - job_run.spent_pico
    need = _Need(job_run.max_output_tokens, limit)
    calls: dict[str, PlannedCall] = {}
    left_out: dict[str, LeftOut] = {}
    for alias in job_run.aliases:
        for deployment in ordered(job_run.routing.aliases[alias], seed=seed):
            name = deployment.name
            if name in calls or name in left_out:
                continue
            asked = need if calls else replace(need, output=min(need.output, deployment.max_output_tokens))
            bound = bounds.get(name, _UNBOUND)
            asked = replace(asked, input_bound=bound.highest, input_at_least=bound.lowest)
            reason = _other_vectors(deployment, job_run, space, bound) or _unfit(
                deployment, card=cards.get(name), missing=missing.get(name), need=asked
            )
            if reason:
                left_out[name] = reason
            else:
                highest = cards[name].highest(input_tokens=bound.highest, output_tokens=asked.output)
                calls[name] = PlannedCall(deployment, alias, cards[name], highest)
                need = asked
    found = Plan(tuple(calls.values()), tuple((left.name, left.reason) for left in left_out.values()))
    return Planned(found, need.output, None if calls else _nothing_left(tuple(left_out.values())))


def followed_up(
    call: PlannedCall, messages: tuple[Message, ...], *, bound: InputBound, max_output_tokens: int
) -> PlannedCall | None:
    """The call with more messages, whose whole input has this bound; None where it is surely too long."""
    need = _Need(max_output_tokens, None, bound.highest, bound.lowest)
    if _unfit(call.deployment, card=call.card, missing=None, need=need):
        return None
    highest = call.card.highest(input_tokens=bound.highest, output_tokens=max_output_tokens)
    return replace(call, highest_pico=highest, follow_up=messages)


def _unfit(
    deployment: Deployment, *, card: RateCard | None, missing: str | None, need: _Need
) -> LeftOut | None:
    """Why the deployment is left out, or None."""
    if missing is not None or card is None:
        return LeftOut(deployment.name, Cause.UNUSABLE, missing or "no price")
    if deployment.max_output_tokens < need.output:
        reason = f"it writes at most {deployment.max_output_tokens} tokens, the answer may have {need.output}"
        return LeftOut(deployment.name, Cause.UNUSABLE, reason)
    at_least, room = need.input_at_least, deployment.context_tokens
    if deployment.embedding is None and at_least + need.output > room:
        reason = f"context too long: at least {at_least} + {need.output} tokens, it takes {room}"
        return LeftOut(deployment.name, Cause.TOO_LONG, reason)
    highest = card.highest(input_tokens=need.input_bound, output_tokens=need.output)
    if need.limit_pico is not None and highest > need.limit_pico:
        left = usd_text(max(0, need.limit_pico))
        reason = f"too dear: up to {usd_text(highest)} USD, the task's limit leaves {left}"
        return LeftOut(deployment.name, Cause.TOO_DEAR, reason)
    return None


def vector_space(job_run: JobRun, *, cards: Mapping[str, RateCard], missing: Mapping[str, str]) -> str | None:
    """Which model's vectors this worker makes for the job's task, whatever the job: the first one that can be called.

    So a collection never mixes two models' vectors, though the last resort be another model.
    """
    found = sorted(usable(job_run, cards=cards, missing=missing), key=lambda one: not one.weight)
    return next((one.embedding.vector_space for one in found if one.embedding), None)


def _other_vectors(
    deployment: Deployment, job_run: JobRun, space: str | None, bound: InputBound
) -> LeftOut | None:
    """Why an embedding model cannot make this job's vectors in one call, or None."""
    limits, name, inputs = deployment.embedding, deployment.name, job_run.job.inputs
    if limits is None:
        return None
    if space is not None and limits.vector_space != space:
        reason = f"its vectors cannot be compared with those of {space}"
        return LeftOut(name, Cause.UNUSABLE, reason)
    if bound.longest > deployment.context_tokens:
        reason = f"one input has at least {bound.longest} tokens, it takes {deployment.context_tokens}"
        return LeftOut(name, Cause.TOO_LONG, reason)
    dimensions = job_run.dimensions(deployment)
    why = _shape(limits, dimensions, inputs=len(inputs), at_least=bound.lowest)
    return LeftOut(name, Cause.OTHER_SHAPE, why) if why else None


def _shape(limits: EmbeddingLimits, dimensions: int, *, inputs: int, at_least: int) -> str | None:
    """What of the job no call of this model takes, or no result holds."""
    if not limits.min_dimensions <= dimensions <= limits.dimensions:
        return (
            f"it gives {limits.min_dimensions} to {limits.dimensions} dimensions, {dimensions} are asked for"
        )
    if inputs > limits.max_inputs:
        return f"a call takes {limits.max_inputs} inputs, the job has {inputs}"
    if limits.max_call_tokens is not None and at_least > limits.max_call_tokens:
        return f"a call takes {limits.max_call_tokens} tokens, the inputs have at least {at_least}"
    most = MOST_VECTOR_BYTES // (BYTES_PER_NUMBER * dimensions)
    if inputs > most:
        return f"a result holds {most} vectors of {dimensions} dimensions, the job has {inputs} inputs"
    return None


def ordered(deployments: tuple[Deployment, ...], *, seed: str) -> list[Deployment]:
    """By weight: each position is drawn in proportion to the weights left (an exponential race, seeded by hash).

    Weight 0 comes last, in the file's order.
    """
    weighted = sorted((d for d in deployments if d.weight), key=lambda d: _race(d, seed))
    return weighted + [d for d in deployments if not d.weight]


def _race(deployment: Deployment, seed: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{deployment.name}".encode()).digest()
    uniform = (int.from_bytes(digest[:7], "big") + 1) / (2**56 + 1)
    return -math.log(uniform) / deployment.weight


def _seed(job_run: JobRun) -> str:
    first = job_run.messages[0].cache_key if job_run.messages else None
    return f"{job_run.job.tenant}\0{first}" if first else str(job_run.job_id)


def _nothing_left(left_out: tuple[LeftOut, ...]) -> JobError:
    """The end of a job that no deployment can take: what the producer can change first."""
    causes = {left.cause for left in left_out if left.cause is not Cause.UNUSABLE}
    named = "; ".join(f"{left.name}: {left.reason}" for left in left_out[:_MOST_NAMED])
    more = f"; and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
    if causes == {Cause.OTHER_SHAPE}:
        advice = "split the inputs over several jobs (submit_many), or ask for other dimensions"
        return JobError.of(ErrorCode.INVALID_JOB, f"no model takes this job ({named}{more}): {advice}")
    if causes <= {Cause.TOO_LONG, Cause.OTHER_SHAPE} and Cause.TOO_LONG in causes:
        return JobError.of(
            ErrorCode.CONTEXT_TOO_LONG, f"the job is too long for every model ({named}{more}): shorten it"
        )
    if Cause.TOO_DEAR in causes:
        advice = "shorten the job, lower max_output_tokens, or raise the task's max_cost_usd"
        return JobError.of(
            ErrorCode.COST_LIMIT, f"no model fits the task's cost limit ({named}{more}): {advice}"
        )
    message = f"no deployment can be used ({named}{more}): set a key or a price, see `fairlane doctor`"
    return JobError.of(ErrorCode.PROVIDER_UNAVAILABLE, message, reason="no_deployment", retryable=False)
