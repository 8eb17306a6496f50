"""The plan of a job: a pure function of the job, its limits, the prices and the measured speeds, with its reasons."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from pydantic import JsonValue

from producer_sdk.contract import ErrorCode, JobError, Message, Usage, to_pico, to_usd, usd_text
from worker.capabilities import needs, refused, unreadable_image
from worker.job_run import JobRun, Plan, PlannedCall, too_slow
from worker.rate_card import RateCard
from worker.routing import strategies
from worker.routing.strategies import Asked
from worker.routing.tokens import InputBound
from worker.routing.vectors import unfit_vectors, vector_space
from worker.routing_file import Deployment
from worker.speed import Speed, expected_tokens

_MOST_NAMED = 6
_UNBOUND = InputBound(0, 0)  # of what is left out before its size matters


class Cause(IntEnum):
    """Why a deployment is left out, from what only the operator can change to what the job can."""

    UNUSABLE = 0
    TOO_DEAR = 1
    TOO_LONG = 2
    REFUSES = 3
    OTHER_SHAPE = 4


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
    """What a deployment must take: so much input, so long an answer, within so much money (None: any).

    `ms`: how long it is foretold to take.
    """

    output: int
    limit_pico: int | None
    input: InputBound
    ms: int | None
    capabilities: tuple[str, ...] = ()


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
    speeds: Mapping[str, Speed] | None = None,
    left_ms: float = math.inf,
    passing: Collection[str] = (),
) -> Planned:
    """The deployments to try, in order: alias after alias, inside each by its strategy, the same for the same job.

    `missing` names deployments that cannot be used, each with its reason; `bounds` are those of all others. `speeds`
    are what the fleet has measured of them, `left_ms` is the time that the chain has: what is foretold to need more is
    left out, but never the last. What is missing for a `passing` reason still says whose vectors a job gets. The answer
    is as long as the first deployment can write it at most; one that cannot write so much is left out.
    """
    wrong = unreadable_image(job_run.messages)
    if wrong:
        return Planned(Plan(()), job_run.max_output_tokens, JobError.of(ErrorCode.INVALID_JOB, wrong))
    task = job_run.known_task()
    lasting = {name: why for name, why in missing.items() if name not in passing} if passing else missing
    space = vector_space(usable(job_run, cards=cards, missing=lasting))
    limit = None if task.max_cost_usd is None else to_pico(task.max_cost_usd) - job_run.spent_pico
    orders = _Orders(job_run, cards, bounds, speeds or {})
    output, needed = job_run.max_output_tokens, needs(job_run.messages, job_run.job.params)
    calls: dict[str, PlannedCall] = {}
    left_out: dict[str, LeftOut] = {}
    for alias in job_run.aliases:
        for deployment in orders.of(alias):
            name = deployment.name
            if name in calls or name in left_out:
                continue
            asked, bound = (
                output if calls else min(output, deployment.max_output_tokens),
                bounds.get(name, _UNBOUND),
            )
            need = _Need(asked, limit, bound, orders.ms.get(name), needed)
            is_usable = name in cards and name not in missing
            other = _other_vectors(deployment, job_run, space, bound) if is_usable else None
            found = other or _call(
                deployment, alias, card=cards.get(name), missing=missing.get(name), need=need
            )
            if isinstance(found, LeftOut):
                left_out[name] = found
            else:
                calls[name] = found
                output = asked
    in_time, too_slow = _in_time(tuple(calls.values()), left_ms)
    named = tuple((left.name, left.reason) for left in left_out.values())
    found_plan = Plan(in_time, named + too_slow)
    return Planned(found_plan, output, None if calls else _nothing_left(tuple(left_out.values())))


class _Orders:
    """The order of each alias's deployments, for one job."""

    def __init__(
        self,
        job_run: JobRun,
        cards: Mapping[str, RateCard],
        bounds: Mapping[str, InputBound],
        speeds: Mapping[str, Speed],
    ) -> None:
        self.ms = _predicted_ms(job_run, speeds)
        self._job_run = job_run
        self._cards = cards
        self._bounds = bounds
        first = job_run.messages[0].cache_key if job_run.messages else None
        seed = f"{job_run.job.tenant}\0{first}" if first else str(job_run.job_id)
        drawn = strategies.draw(job_run.job_id)
        self._asked = Asked(seed, has_prefix=bool(first), draw=drawn, latency_ms=self.ms)

    def of(self, alias: str) -> list[Deployment]:
        """The alias's deployments in the order of its strategy."""
        routing = self._job_run.routing
        deployments, strategy = routing.aliases[alias], routing.strategies.get(alias, "weighted")
        asked = self._asked
        if strategy == "cheapest":
            asked = replace(asked, cost_pico=self._costs(deployments))
        return strategies.STRATEGIES[strategy](deployments, asked)

    def _costs(self, deployments: tuple[Deployment, ...]) -> dict[str, int]:
        """What the job costs at each, the input as the tightest of their bounds counts it, the answer as long as asked.

        One count for all: bytes are several times more than tokens, and say nothing of the price.
        """
        priced = [d for d in deployments if d.name in self._cards and d.name in self._bounds]
        tokens = min((self._bounds[d.name].highest for d in priced), default=0)
        usage = Usage(input_tokens=tokens, output_tokens=self._job_run.max_output_tokens)
        return {d.name: self._cards[d.name].cost(usage) for d in priced}


def _predicted_ms(job_run: JobRun, speeds: Mapping[str, Speed]) -> dict[str, int]:
    """How long each of the job's deployments takes whose speed is known."""
    aliases = job_run.routing.aliases
    names = {d.name for alias in job_run.aliases for d in aliases[alias]} if speeds else ()
    known = {name: speeds[name] for name in names if name in speeds and speeds[name].is_known}
    tokens = expected_tokens(known.values(), at_most=job_run.max_output_tokens)
    return {name: max(1, speed.predicted_ms(tokens)) for name, speed in known.items()}


def _in_time(
    calls: tuple[PlannedCall, ...], left_ms: float
) -> tuple[tuple[PlannedCall, ...], tuple[tuple[str, str], ...]]:
    """The calls that are not foretold to take too long, and why the others are left out. A forecast empties no plan."""
    in_time = [call for call in calls if call.predicted_ms is None or call.predicted_ms <= left_ms]
    if len(in_time) == len(calls):
        return calls, ()
    in_time = in_time or [min(calls, key=lambda call: call.predicted_ms or 0)]
    kept = {call.deployment.name for call in in_time}
    slow = [call for call in calls if call.deployment.name not in kept]
    return tuple(in_time), tuple((call.deployment.name, too_slow(call, left_ms)) for call in slow)


def _call(
    deployment: Deployment, alias: str, *, card: RateCard | None, missing: str | None, need: _Need
) -> PlannedCall | LeftOut:
    """The call with its highest cost, or why the deployment is left out."""
    if missing is not None or card is None:
        return LeftOut(deployment.name, Cause.UNUSABLE, missing or "no price")
    lacking = refused(deployment, need.capabilities)
    if lacking:
        return LeftOut(deployment.name, Cause.REFUSES, lacking)
    if deployment.max_output_tokens < need.output:
        reason = f"it writes at most {deployment.max_output_tokens} tokens, the answer may have {need.output}"
        return LeftOut(deployment.name, Cause.UNUSABLE, reason)
    at_least, room = need.input.lowest, deployment.context_tokens
    if deployment.embedding is None and at_least + need.output > room:
        reason = f"context too long: at least {at_least} + {need.output} tokens, it takes {room}"
        return LeftOut(deployment.name, Cause.TOO_LONG, reason)
    highest = card.highest(input_tokens=need.input.highest, output_tokens=need.output)
    if need.limit_pico is not None and highest > need.limit_pico:
        left = usd_text(max(0, need.limit_pico))
        reason = f"too dear: up to {usd_text(highest)} USD, the task's limit leaves {left}"
        return LeftOut(deployment.name, Cause.TOO_DEAR, reason)
    return PlannedCall(deployment, alias, card, highest, predicted_ms=need.ms)


def told(planned: Planned) -> dict[str, JsonValue]:
    """What the job's story says of it: each call in order, and why the others were left out."""
    calls: list[JsonValue] = [
        {
            "deployment": call.deployment.name,
            "alias": call.alias,
            "highest_usd": f"{to_usd(call.highest_pico):f}",
            "predicted_ms": call.predicted_ms,
            "own_key": call.own_key or None,
        }
        for call in planned.plan.calls
    ]
    left_out: list[JsonValue] = [{"deployment": name, "why": why} for name, why in planned.plan.left_out]
    return {"calls": calls, "left_out": left_out or None, "max_output_tokens": planned.max_output_tokens}


def followed_up(
    call: PlannedCall, messages: tuple[Message, ...], *, bound: InputBound, max_output_tokens: int
) -> PlannedCall | None:
    """The call with more messages, whose whole input has this bound; None where it is surely too long."""
    need = _Need(max_output_tokens, None, bound, call.predicted_ms)
    longer = _call(call.deployment, call.alias, card=call.card, missing=None, need=need)
    if isinstance(longer, LeftOut):
        return None
    return replace(longer, follow_up=messages)


def _other_vectors(
    deployment: Deployment, job_run: JobRun, space: str | None, bound: InputBound
) -> LeftOut | None:
    """Why an embedding model cannot make this job's vectors in one call, or None."""
    limits, name = deployment.embedding, deployment.name
    if limits is None:
        return None
    if space is not None and limits.vector_space != space:
        return LeftOut(name, Cause.UNUSABLE, f"its vectors cannot be compared with those of {space}")
    if bound.longest > deployment.context_tokens:
        reason = f"one input has at least {bound.longest} tokens, it takes {deployment.context_tokens}"
        return LeftOut(name, Cause.TOO_LONG, reason)
    why = unfit_vectors(
        limits, job_run.dimensions(deployment), inputs=len(job_run.job.inputs), at_least=bound.lowest
    )
    return LeftOut(name, Cause.OTHER_SHAPE, why) if why else None


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
    if Cause.REFUSES in causes:
        advice = "leave it out, or use an alias with a model that takes it"
        return JobError.of(
            ErrorCode.INVALID_JOB, f"no model takes all that the job has ({named}{more}): {advice}"
        )
    message = f"no deployment can be used ({named}{more}): set a key or a price, see `fairlane doctor`"
    return JobError.of(ErrorCode.PROVIDER_UNAVAILABLE, message, reason="no_deployment", retryable=False)
