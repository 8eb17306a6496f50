"""After a failed attempt: here again, the next deployment, later, or an end; and how a chain ends (research: 4.1).

Every function is pure; the table `after` walks is docs/routing.md's, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from producer_sdk.contract import ErrorCode, JobError, usd_text
from worker.errors import FailureKind, ProviderError
from worker.job_run import PlannedCall, WrongAnswer

Move = Literal["here", "next", "hand_back", "stop"]

SHARE = 0.6  # of what is left, while others wait behind; the last deployment gets all of it
MOST_ATTEMPT_S = 240.0
LEAST_ATTEMPT_S = 0.02
LAST_NEEDS = 0.5  # of its predicted time: with less it would only be cut off, with that much it may be lucky
WAIT_IN_SLOT_S = 1.0  # a longer wait gives the slot to someone else
BACKOFF_S = 1.0
MOST_WAITS_HERE = 3
MOST_PAID_WAITS, PAID_WAIT_S = 60, 60.0  # of a chain that may have been billed, in its slot
WAIT_HERE_S = 0.25  # for a deployment that takes no call now: it is full, or a Retry-After is nearly over
MOST_TRIED_MS = 600_000  # a job that failed is not tried for longer because its provider names a time
MOST_WAITED_MS = 86_400_000  # a job that a provider still puts off after a day ends
PARKED_S = 300.0
REFUSED_WAITS_S = 60.0  # of a job that its budget refuses where it could be called now
LATER_S = (5.0, 20.0, 80.0)

_TRANSIENT = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.OVERLOADED,
        FailureKind.SERVER_ERROR,
        FailureKind.CONNECT_ERROR,
        FailureKind.TIMEOUT,
        FailureKind.STREAM_BROKEN,
    }
)
_ONCE_MORE = _TRANSIENT - {FailureKind.TIMEOUT}
_SAME_CREDENTIAL = frozenset({FailureKind.QUOTA_EXHAUSTED, FailureKind.AUTH})
_PASSING = _TRANSIENT | _SAME_CREDENTIAL


@dataclass(frozen=True)
class Decision:
    """What follows a failure. `rest`: the deployments still worth trying; `pays`: the retry budget is asked first."""

    move: Move
    reason: str
    delay_s: float = 0.0
    rest: tuple[PlannedCall, ...] = ()
    pays: bool = False


@dataclass(frozen=True)
class Failed:
    """One attempt that failed in this chain."""

    call: PlannedCall
    error: ProviderError


def attempt_timeout_s(remaining_s: float, *, others: int) -> float:
    """How long this attempt may take: a share of what is left while others could still be tried."""
    return min(remaining_s * SHARE if others else remaining_s, MOST_ATTEMPT_S)


def after(
    failed: Failed,
    *,
    rest: Sequence[PlannedCall],
    tries_here: int,
    failed_here: int,
    remaining_s: float,
    left_s: float,
    waited_ms: int,
    billed: bool,
    jitter: float,
    again: PlannedCall | None = None,
) -> Decision:
    """What to do after this failure.

    `remaining_s` is the chain's time, `left_s` the job's own. `tries_here` counts this deployment's attempts,
    `failed_here` those that failed otherwise than by a 429 that said for how long. `billed`: some attempt of this
    chain may have been paid for, so that the chain must not begin anew for free; `jitter` is from 0 to 1. `again`: the
    same call with what was wrong said.
    """
    error = failed.error
    others = worth_trying(failed, rest)
    if _is_final(error):
        return Decision("stop", f"{error.kind} fails everywhere alike")
    if again is not None:
        reason = f"{error.code}, the same deployment is told what was wrong"
        return Decision("next", reason, rest=(again, *others), pays=True)
    if others:
        pays = error.billed != "no"
        return Decision("next", f"{error.kind}, another deployment is left", rest=others, pays=pays)
    wait_s = error.retry_after_s
    longest_here_s = PAID_WAIT_S if billed else WAIT_IN_SLOT_S
    may_leave = not billed and waited_ms < MOST_WAITED_MS
    if error.kind == FailureKind.RATE_LIMITED and wait_s is not None:
        may_leave = may_leave and max(wait_s, WAIT_IN_SLOT_S) < left_s
        may_stay = wait_s < remaining_s and wait_s <= longest_here_s
        return _wait_for(wait_s, may_stay=may_stay and tries_here <= MOST_WAITS_HERE, may_leave=may_leave)
    if error.once_only and error.kind != FailureKind.RATE_LIMITED:
        return Decision("stop", f"{error.kind}, and it says that to try again is of no use")
    if error.kind in _ONCE_MORE and failed_here < 2:
        if wait_s is not None and wait_s > longest_here_s:
            if may_leave and wait_s < left_s and waited_ms < MOST_TRIED_MS:
                return Decision("hand_back", f"{error.kind} for {wait_s:g} s", delay_s=wait_s, pays=True)
            return Decision("stop", f"{error.kind} for {wait_s:g} s, too long to wait here or in the lane")
        delay_s = max(BACKOFF_S * jitter, wait_s or 0.0)
        if delay_s < remaining_s / 2:
            return Decision("here", f"{error.kind}, once more", delay_s=delay_s, pays=True)
    return Decision("stop", f"{error.kind}, no deployment is left")


def told(decision: Decision, failures: Sequence[Failed]) -> dict[str, JsonValue]:
    """What the job's story says of it. What was wrong with an answer is said without its words."""
    error = failures[-1].error
    follows = decision.rest[0].deployment.name if decision.move == "next" and decision.rest else None
    return {
        "why": decision.reason,
        "wrong": error.noted or None if isinstance(error, WrongAnswer) else None,
        "next": follows,
        "delay_ms": int(decision.delay_s * 1000) or None,
        "pays": decision.pays or None,
    }


def worth_trying(failed: Failed, rest: Sequence[PlannedCall]) -> tuple[PlannedCall, ...]:
    """Those of the rest that this failure does not foretell: another credential, a longer context."""
    here = failed.call.deployment
    if failed.error.kind in _SAME_CREDENTIAL:
        return tuple(call for call in rest if call.deployment.provider.name != here.provider.name)
    if failed.error.kind == FailureKind.CONTEXT_TOO_LONG:
        return tuple(call for call in rest if call.deployment.context_tokens > here.context_tokens)
    return tuple(rest)


def to_correct(failures: Sequence[Failed]) -> WrongAnswer | None:
    """The chain's last failure if it is a wrong answer that is told what was wrong: the first of its chain."""
    wrong = [failed.error for failed in failures if isinstance(failed.error, WrongAnswer)]
    return wrong[0] if len(wrong) == 1 and failures[-1].error is wrong[0] else None


def _is_final(error: ProviderError) -> bool:
    if error.kind == FailureKind.INVALID_REQUEST:
        return not error.model_unknown  # another deployment's model may be known
    return error.kind == FailureKind.CONTENT_BLOCKED or error.code == "answer_too_large"


def _wait_for(retry_after_s: float, *, may_stay: bool, may_leave: bool) -> Decision:
    """Obey a Retry-After: a short one in the slot, a longer one in the lane. Waiting is no retry, so nobody pays."""
    if may_stay:
        return Decision("here", f"rate_limited for {retry_after_s:g} s", delay_s=retry_after_s)
    if may_leave:
        delay_s = max(retry_after_s, WAIT_IN_SLOT_S)
        return Decision("hand_back", f"rate_limited for {retry_after_s:g} s", delay_s=delay_s)
    return Decision("stop", f"rate_limited for {retry_after_s:g} s, too long to wait here or in the lane")


def fits_cost(call: PlannedCall, *, limit_pico: int | None, spent_pico: int) -> bool:
    """Whether the call's highest cost fits what the chain's cost limit leaves."""
    return limit_pico is None or call.highest_pico <= limit_pico - spent_pico


def fits_time(call: PlannedCall, *, remaining_s: float, others: bool) -> bool:
    """Whether a later call of a chain is foretold to end in what is left; the last one need only have half of it."""
    if call.predicted_ms is None:
        return True
    return 1000 * remaining_s >= call.predicted_ms * (1 if others else LAST_NEEDS)


def later_s(
    failures: Sequence[Failed], *, lane: str, retries: int, left_s: float, jitter: float
) -> float | None:
    """When to try a batch job again whose every deployment failed for a passing reason and billed nothing; or None."""
    if lane != "batch" or retries >= len(LATER_S) or not failures:
        return None
    if any(f.error.kind not in _TRANSIENT or f.error.billed != "no" or f.error.once_only for f in failures):
        return None
    delay_s = LATER_S[retries] * (0.5 + jitter / 2)
    return delay_s if delay_s < left_s else None


def wait_here_s(wait_s: float, *, waits: int, may_leave: bool) -> float | None:
    """How long to wait in the slot for the last deployment, which takes no call for `wait_s`; None: not at all.

    A chain that may be billed cannot wait in its lane: what it has paid for would be lost, so it waits on here.
    """
    if not may_leave:
        return None if waits > MOST_PAID_WAITS or wait_s > PAID_WAIT_S else max(wait_s, WAIT_IN_SLOT_S)
    return None if waits > MOST_WAITS_HERE or wait_s > WAIT_HERE_S else wait_s


def failed_at(name: str, failures: Sequence[Failed]) -> int:
    """How many attempts at this deployment failed, 429s that said for how long left out: those were waited for."""
    return sum(
        failed.call.deployment.name == name
        and not (failed.error.kind == FailureKind.RATE_LIMITED and failed.error.retry_after_s is not None)
        for failed in failures
    )


def put_off_s(
    waits_s: Sequence[float],
    failures: Sequence[Failed],
    *,
    cools_s: float | None,
    refused: bool,
    left_s: float,
    waited_ms: int,
    jitter: float,
) -> float | None:
    """When to come back to deployments that took no call; None where nothing was put off, or waiting cannot help.

    `waits_s`: of those that were asked; `cools_s`: of what the plan left out. A chain in which something may have been
    billed does not begin anew, and a job that its budget `refused` elsewhere is not held back for long.
    """
    waits_s = [*waits_s] if cools_s is None else [*waits_s, cools_s]
    passing = all(f.error.kind in _PASSING and f.error.billed == "no" for f in failures)
    if not waits_s or not passing or waited_ms >= MOST_WAITED_MS:
        return None
    if refused and min(waits_s) > REFUSED_WAITS_S:
        return None
    delay_s = max(min(waits_s), WAIT_IN_SLOT_S) * (1 + jitter / 4)
    return delay_s if delay_s < left_s else None


def parked_s(refused: JobError, *, now: datetime, jitter: float) -> float | None:
    """For how long a job that its budget refused is parked; None where waiting cannot help it.

    Until the window begins anew, or for five minutes: an operator may have raised the limit meanwhile.
    """
    if refused.reason == "in_flight":
        return (refused.retry_after_s or BACKOFF_S) * (1 + jitter)
    if refused.reason == "window_spent" and refused.resets_at:
        left_s = (refused.resets_at - now).total_seconds()
        return max(BACKOFF_S, min(left_s, PARKED_S * (0.9 + 0.2 * jitter)))
    return None


def ending(
    failures: Sequence[Failed],
    *,
    refused: JobError | None,
    too_dear: Sequence[PlannedCall],
    spent_pico: int,
    put_off: Sequence[str] = (),
    skipped: Sequence[str] = (),
) -> JobError:
    """How the job ends when no attempt answered: the most telling of what was met; `skipped` for want of time."""
    if not failures:
        return refused or (_over_cost(too_dear, spent_pico) if too_dear else _put_off(put_off))
    last = failures[-1].error
    said = "; ".join(
        [*(f"{f.call.deployment.name}: {_shown(f.error)}" for f in failures[-6:]), *skipped[-6:]]
    )
    if refused:
        said += f"; no other attempt: {refused.code} ({refused.reason})"
    elif put_off:
        said += f"; no other attempt: {put_off[-1]}"
    if last.code == "answer_too_large":
        return JobError.of(
            ErrorCode.ANSWER_TOO_LARGE, f"the answer was too large ({said}): lower max_output_tokens"
        )
    if last.kind == FailureKind.CONTENT_BLOCKED:
        return JobError.of(
            ErrorCode.CONTENT_BLOCKED, f"the provider's filter refused the content ({said}): change it"
        )
    if last.kind == FailureKind.INVALID_REQUEST and not last.model_unknown:
        message = f"the provider refused the request as invalid ({said}): check params, tools and messages"
        return JobError.of(ErrorCode.INVALID_JOB, message, reason=last.code)
    wrong = [f.error for f in failures if isinstance(f.error, WrongAnswer)]
    if wrong:
        return _never_right(ErrorCode(str(wrong[-1].code)), said)
    if last.kind == FailureKind.INVALID_OUTPUT:
        advice = "look at the deployment in routing.yaml (model, dimensions), or give its task another model"
        return JobError.of(
            ErrorCode.INVALID_OUTPUT, f"no answer was what the job asks for ({said}): {advice}"
        )
    if all(f.error.kind == FailureKind.CONTEXT_TOO_LONG for f in failures):
        return JobError.of(
            ErrorCode.CONTEXT_TOO_LONG, f"the job is too long for every model ({said}): shorten it"
        )
    waits = [f.error.retry_after_s for f in failures if f.error.retry_after_s is not None]
    return JobError.of(
        ErrorCode.PROVIDER_UNAVAILABLE,
        f"every deployment failed ({said}): submit it again later, or add a fallback to its task",
        reason=str(last.kind),
        retryable=any(f.error.kind in _TRANSIENT and not f.error.once_only for f in failures),
        retry_after_s=min(waits) if waits else None,
    )


def _put_off(put_off: Sequence[str]) -> JobError:
    said = "; ".join(put_off[-6:])
    message = f"no deployment takes calls before the job's deadline ({said}): submit it again later"
    return JobError.of(ErrorCode.PROVIDER_UNAVAILABLE, message, reason="put_off", retryable=True)


def _never_right(code: ErrorCode, said: str) -> JobError:
    """The end of a job that was answered, and never as it asked."""
    advice = {
        ErrorCode.CITATIONS_MISSING: "give it documents that hold the answer, or its task a model that quotes them",
        ErrorCode.INVALID_OUTPUT: "simplify response_schema, raise max_output_tokens, or give its task another model",
    }[code]
    return JobError.of(code, f"no answer was what the job asks for ({said}): {advice}")


def _over_cost(too_dear: Sequence[PlannedCall], spent_pico: int) -> JobError:
    names = ", ".join(call.deployment.name for call in too_dear)
    spent = usd_text(spent_pico)
    message = (
        f"the task's max_cost_usd is used up ({spent} USD spent; left: {names}): raise it, or shorten the job"
    )
    return JobError.of(ErrorCode.COST_LIMIT, message)


def out_of_time(*, unresolved_attempts: int, attempts: int) -> JobError:
    """The end of a chain whose one deadline has passed."""
    if unresolved_attempts:
        message = (
            "an earlier attempt of this job may have been answered and billed before a worker was lost, and there is "
            "no time for another: check the effect, then submit it anew if it is needed"
        )
        return JobError.of(ErrorCode.UNCERTAIN, message)
    message = f"the deadline passed after {attempts} attempts: raise max_latency_ms, or choose a faster model"
    return JobError.of(ErrorCode.DEADLINE_EXCEEDED, message)


def _shown(error: ProviderError) -> str:
    if isinstance(error, WrongAnswer):
        return f"{error.code}, {error.wrong}"
    detail = error.code or (str(error.status) if error.status else "")
    return f"{error.kind} ({detail})" if detail else str(error.kind)
