"""The plan of a job: a pure function of the job, its limits and the prices, with a reason for what it leaves out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from producer_sdk.contract import ErrorCode, ImagePart, JobError, Message, to_pico, usd_text
from worker.job_run import JobRun, Plan, PlannedCall
from worker.rate_card import RateCard
from worker.routing_file import Deployment

PER_MESSAGE = 16  # a chat template's marks around one message
PER_REQUEST = 64
PER_TOOLS = 1024  # what providers put before the tools by themselves
PER_IMAGE = 8192  # above what the models of routing.yaml count for the largest image they take
BYTES_PER_TOKEN = 6  # more than real text has: a text left out for its length is surely too long
_MOST_NAMED = 6


class Cause(IntEnum):
    """Why a deployment is left out, from what only the operator can change to what the job can."""

    UNUSABLE = 0
    TOO_DEAR = 1
    TOO_LONG = 2


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

    input_bound: int
    output: int
    limit_pico: int | None


def highest_input_tokens(job_run: JobRun) -> int:
    """A bound on the tokens of the job's input: no tokenizer makes more tokens than the text has UTF-8 bytes."""
    params = job_run.job.params
    total = PER_REQUEST + sum(_message_tokens(message) for message in job_run.messages)
    if params.tools:
        total += PER_TOOLS + sum(len(tool.model_dump_json().encode()) for tool in params.tools)
    if params.response_schema is not None:
        total += PER_TOOLS + len(json.dumps(params.response_schema, ensure_ascii=False).encode())
    return total


def _message_tokens(message: Message) -> int:
    named = (message.name or "") + (message.tool_call_id or "")
    images = 0 if isinstance(message.content, str) else sum(isinstance(p, ImagePart) for p in message.content)
    calls = sum(len(call.model_dump_json().encode()) for call in message.tool_calls)
    return PER_MESSAGE + len(message.text.encode()) + len(named.encode()) + calls + images * PER_IMAGE


def plan(
    job_run: JobRun, *, cards: Mapping[str, RateCard], missing: Mapping[str, str], input_bound: int
) -> Planned:
    """The deployments to try, in order: alias after alias, inside each by weight, the same for the same job.

    `missing` names deployments that cannot be used, each with its reason. A job with a static prefix is drawn by
    that prefix's key, so that the provider's cache of it stays warm. The answer is as long as the first deployment can
    write it at most; one that cannot write so much is left out.
    """
    task, seed = job_run.known_task(), _seed(job_run)
    limit = None if task.max_cost_usd is None else to_pico(task.max_cost_usd) - job_run.spent_pico
    need = _Need(input_bound, job_run.max_output_tokens, limit)
    calls: dict[str, PlannedCall] = {}
    left_out: dict[str, LeftOut] = {}
    for alias in job_run.aliases:
        for deployment in ordered(job_run.routing.aliases[alias], seed=seed):
            name = deployment.name
            if name in calls or name in left_out:
                continue
            asked = need if calls else replace(need, output=min(need.output, deployment.max_output_tokens))
            reason = _unfit(deployment, card=cards.get(name), missing=missing.get(name), need=asked)
            if reason:
                left_out[name] = reason
            else:
                highest = cards[name].highest(input_tokens=input_bound, output_tokens=asked.output)
                calls[name] = PlannedCall(deployment, alias, cards[name], highest)
                need = asked
    found = Plan(tuple(calls.values()), tuple((left.name, left.reason) for left in left_out.values()))
    return Planned(found, need.output, None if calls else _nothing_left(tuple(left_out.values())))


def _unfit(
    deployment: Deployment, *, card: RateCard | None, missing: str | None, need: _Need
) -> LeftOut | None:
    """Why the deployment is left out, or None."""
    if missing is not None or card is None:
        return LeftOut(deployment.name, Cause.UNUSABLE, missing or "no price")
    if deployment.max_output_tokens < need.output:
        reason = f"it writes at most {deployment.max_output_tokens} tokens, the answer may have {need.output}"
        return LeftOut(deployment.name, Cause.UNUSABLE, reason)
    at_least = need.input_bound // BYTES_PER_TOKEN
    if at_least + need.output > deployment.context_tokens:
        room = deployment.context_tokens
        reason = f"context too long: at least {at_least} + {need.output} tokens, it takes {room}"
        return LeftOut(deployment.name, Cause.TOO_LONG, reason)
    highest = card.highest(input_tokens=need.input_bound, output_tokens=need.output)
    if need.limit_pico is not None and highest > need.limit_pico:
        left = usd_text(max(0, need.limit_pico))
        reason = f"too dear: up to {usd_text(highest)} USD, the task's limit leaves {left}"
        return LeftOut(deployment.name, Cause.TOO_DEAR, reason)
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
    if causes == {Cause.TOO_LONG}:
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
