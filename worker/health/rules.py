"""What a call's end says of its deployment, which calls of a plan may be made now, and why the others not.

Every function is pure; docs/routing.md has the table of states.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from producer_sdk.contract import ErrorCode, JobError
from worker.errors import KEY_CHANGED, NO_KEY, FailureKind, ProviderError
from worker.job_run import Answer, Attempt, PlannedCall
from worker.routing_file import Deployment
from worker.speed import Speed

Verdict = Literal["ok", "bad", ""]

NO_HINT_S = 1.0  # a 429 that does not say for how long
QUOTA_S = 600.0  # a spent quota comes back when somebody pays or a day begins
AUTH_S = 300.0
UNKNOWN_MODEL_S = 300.0
UNKNOWN_MODEL = "unknown_model"  # the kind of its cool-down
LEAST_PATIENCE_S = 1.0  # a call that had less time says nothing of its provider
LONGEST_COOL_S = 86_400.0
LONGEST_WAIT_MS = 86_400_000  # a job that providers still put off after a day ends
LEAST_PAUSED_S = 1.0
MOST_PAUSED_S = 15.0

_BROKEN = frozenset(
    {
        FailureKind.OVERLOADED,
        FailureKind.SERVER_ERROR,
        FailureKind.CONNECT_ERROR,
        FailureKind.TIMEOUT,
        FailureKind.STREAM_BROKEN,
    }
)
_PERHAPS_CONTENT = frozenset({FailureKind.SERVER_ERROR, FailureKind.TIMEOUT, FailureKind.STREAM_BROKEN})
_TOO_MUCH = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED})
_ANSWERED = frozenset({FailureKind.CONTEXT_TOO_LONG, FailureKind.CONTENT_BLOCKED})


@dataclass(frozen=True)
class CoolDown:
    """No new calls for so long. `kind`: rate_limited is waited for; the others need a person."""

    left_s: float
    kind: str
    why: str


@dataclass(frozen=True)
class Outcome:
    """What one call's end says: for its breaker, for the number of calls at once, and for how long none follow."""

    verdict: Verdict = ""
    too_much: bool = False
    cool: CoolDown | None = None
    whole_provider: bool = False


@dataclass(frozen=True)
class Took:
    """How long an answer took: to its first token, and after it. `is_silent`: closed, and none had come by then."""

    first_ms: int
    output_tokens: int = 0
    output_ms: int = 0
    is_silent: bool = False


@dataclass(frozen=True)
class Standing:
    """One deployment. `open_s` None: its breaker is closed; 0: half-open. `limit` None: it never had too much.

    `speed` None: it has not answered.
    """

    cool: CoolDown | None = None
    open_s: float | None = None
    open_why: str = ""
    is_probed: bool = False
    in_flight: int = 0
    limit: int | None = None
    speed: Speed | None = None


@dataclass(frozen=True)
class Pause:
    """An operator's stop of new calls. `scope`: "all" or "provider:NAME"; `left_s` None: until it is resumed."""

    scope: str
    left_s: float | None
    lasted_s: float
    reason: str


@dataclass(frozen=True)
class View:
    """How the fleet's deployments stood when they were looked at."""

    deployments: Mapping[str, Standing] = field(default_factory=dict)
    providers: Mapping[str, CoolDown] = field(default_factory=dict)
    pauses: tuple[Pause, ...] = ()

    @cached_property
    def speeds(self) -> Mapping[str, Speed]:
        """How fast those are that have answered."""
        return {name: one.speed for name, one in self.deployments.items() if one.speed}


@dataclass(frozen=True)
class Obstacle:
    """Why a deployment takes no call now, and in how many seconds it may."""

    kind: str
    reason: str
    wait_s: float


@dataclass(frozen=True)
class Sifted:
    """The calls that may be made, why the others not, and what follows where none is left."""

    calls: tuple[PlannedCall, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    despite: frozenset[str] = frozenset()  # kept as the last, though its breaker is open or its credit spent
    standby: PlannedCall | None = None  # as Plan's, as is wait_s
    wait_s: float | None = None
    hand_back_s: float | None = None
    error: JobError | None = None


def of_answer(exhausted_s: float | None) -> Outcome:
    """An answer; its headers may say that it was the last one for now."""
    return Outcome("ok", cool=_until_reset(exhausted_s))


def took(answer: Answer) -> Took | None:
    """What an answer says of its deployment's speed; None where nobody has looked at the clock."""
    if answer.first_token_ms is None:
        return None
    return Took(answer.first_token_ms, answer.usage.output_tokens, answer.latency_ms - answer.first_token_ms)


def silent(attempt: Attempt) -> Took | None:
    """What it says of a deployment's speed that another's first token came before its own."""
    return None if attempt.silent_ms is None else Took(attempt.silent_ms, is_silent=True)


def of_error(error: ProviderError, *, timeout_s: float, resubmitted: bool = False) -> Outcome:
    """A failed call that had `timeout_s` seconds. `resubmitted`: its content has failed before, as another job.

    One content that fails whoever serves it must not open the breaker for everybody else's.
    """
    if error.code in (NO_KEY, KEY_CHANGED):
        return Outcome()
    kind, code = error.kind, str(error.status) if error.status else error.code or str(error.kind)
    if kind == FailureKind.RATE_LIMITED:
        if error.retry_after_s is None:  # nobody knows when it is over: the breaker finds out
            return Outcome("bad", too_much=True, cool=_cool(NO_HINT_S, kind, code))
        return Outcome(too_much=True, cool=_cool(error.retry_after_s, kind, code))
    if kind == FailureKind.QUOTA_EXHAUSTED:
        wait_s = max(QUOTA_S, error.retry_after_s or 0.0)
        return Outcome(cool=_cool(wait_s, kind, "its quota is spent"), whole_provider=True)
    if kind == FailureKind.AUTH:
        return Outcome(
            cool=_cool(AUTH_S, kind, f"its key was refused ({code})"), whole_provider=code == "401"
        )
    if error.model_unknown:
        why = f"its provider does not know the model ({code})"
        return Outcome(cool=CoolDown(UNKNOWN_MODEL_S, UNKNOWN_MODEL, why))
    if error.code == "answer_too_large" or (kind == FailureKind.TIMEOUT and timeout_s < LEAST_PATIENCE_S):
        return Outcome()
    if resubmitted and kind in _PERHAPS_CONTENT:
        return Outcome()
    if kind in _BROKEN:
        return Outcome("bad", too_much=kind in _TOO_MUCH)
    return Outcome("ok" if kind in _ANSWERED else "")


def _until_reset(exhausted_s: float | None) -> CoolDown | None:
    if exhausted_s is None:
        return None
    return _cool(exhausted_s, FailureKind.RATE_LIMITED, "its headers say that nothing is left")


def _cool(seconds: float, kind: FailureKind, why: str) -> CoolDown | None:
    return CoolDown(min(seconds, LONGEST_COOL_S), str(kind), why) if seconds > 0 else None


def obstacle(deployment: Deployment, view: View, *, age_s: float) -> Obstacle | None:
    """Why this deployment takes no call now, by a view that is `age_s` old; None: it may be asked."""
    for pause in view.pauses:
        if pause.scope in scopes(deployment) and _lasts(pause.left_s, age_s):
            return Obstacle("paused", told("paused", 0, pause.reason), paused_s(pause))
    standing = view.deployments.get(deployment.name, Standing())
    for cool in (standing.cool, view.providers.get(deployment.provider.name)):
        if cool and cool.left_s > age_s:
            left_s = cool.left_s - age_s
            return Obstacle(cool.kind, told(cool.kind, left_s, cool.why), left_s)
    if standing.open_s is None:
        return None
    left_s = standing.open_s - age_s
    if left_s > 0:
        return Obstacle("open", told("open", left_s, standing.open_why), left_s)
    return Obstacle("probing", told("probing", 0, ""), 1.0) if standing.is_probed else None


def with_own(view: View, own: View, providers: Collection[str]) -> View:
    """The view of a tenant that has keys of its own for these providers, whose calls met what is in `own`.

    A deployment whose speed they do not tell is as fast as for all others.
    """
    stands = {
        name: one if one.speed and one.speed.is_known else replace(one, speed=_speed_in(view, name))
        for name, one in own.deployments.items()
    }
    return View(
        {**view.deployments, **stands},
        {name: cool for name, cool in view.providers.items() if name not in providers} | {**own.providers},
        view.pauses,
    )


def _speed_in(view: View, name: str) -> Speed | None:
    return view.deployments.get(name, Standing()).speed


def scopes(deployment: Deployment) -> tuple[str, str]:
    """The pauses that stop a deployment's new calls."""
    return "all", f"provider:{deployment.provider.name}"


def put_off_s(kind: str, wait_s: float) -> float:
    """When a job comes back that this obstacle has stopped between its plan and its call.

    A rate limit and a breaker are waited for. What needs a person is not: planned anew, the job goes elsewhere, or is
    called here all the same where nothing else is left.
    """
    return wait_s if kind in ("open", "probing", "full", FailureKind.RATE_LIMITED) else LEAST_PAUSED_S


def told(kind: str, left_s: float, why: str) -> str:
    """An obstacle in words."""
    if kind == "paused":
        return f"paused ({why})" if why else "paused"
    if kind == "open":
        return f"breaker open for {left_s:.0f} s: {why}"
    if kind == "probing":
        return "breaker half-open: another call is trying it"
    if kind == "full":
        return f"full: {why} calls under way"
    return f"cooling down for {left_s:.0f} s: {why}"


def _lasts(left_s: float | None, age_s: float) -> bool:
    return left_s is None or left_s > age_s


def paused_s(pause: Pause) -> float:
    """For how long a job is put back: longer the longer the pause lasts, so that waiting costs little."""
    wait_s = min(max(pause.lasted_s / 4, LEAST_PAUSED_S), MOST_PAUSED_S)
    return wait_s if pause.left_s is None else min(wait_s, max(pause.left_s, 0.05))


def sift(
    calls: Sequence[PlannedCall],
    view: View,
    *,
    age_s: float,
    left_s: float,
    waited_ms: int,
    jitter: float,
) -> Sifted:
    """The calls of a plan that may be made now.

    `left_s`: seconds until the job's own deadline; `waited_ms`: since it was put. Where nothing may be called, what is
    over soonest decides: a job waits for a rate limit or a pause in its lane; an open breaker is tried all the same.
    """
    found = [(call, obstacle(call.deployment, view, age_s=age_s)) for call in calls]
    free = tuple(call for call, what in found if what is None)
    stopped = [(call, what) for call, what in found if what is not None]
    left_out = tuple((call.deployment.name, what.reason) for call, what in stopped)
    may_wait = waited_ms < LONGEST_WAIT_MS
    standby, wait_s = _first_over(stopped, left_s=left_s if may_wait else 0.0)
    if free or not stopped:
        despite = frozenset({standby.deployment.name}) if standby else frozenset()
        return Sifted(free, left_out, despite, standby, wait_s)
    if standby:
        return _kept(standby, left_out)
    if wait_s is not None:
        return Sifted((), left_out, hand_back_s=wait_s + jitter * min(1.0, wait_s / 5))
    paused = [what.wait_s for _call, what in stopped if what.kind == "paused"]
    if paused:
        return Sifted((), left_out, hand_back_s=min(paused) * (1 + jitter / 4))
    spent = [call for call, what in stopped if what.kind != FailureKind.RATE_LIMITED]
    if spent:
        return _kept(spent[0], left_out)
    return Sifted((), left_out, error=too_late([what for _call, what in stopped], left_out))


def _first_over(
    stopped: Sequence[tuple[PlannedCall, Obstacle]], *, left_s: float
) -> tuple[PlannedCall | None, float | None]:
    """The open breaker that is called all the same, or the seconds until a rate limit is over, whichever is first."""
    waits = [
        (call, what)
        for call, what in stopped
        if what.kind in ("open", "probing")
        or (what.kind == FailureKind.RATE_LIMITED and what.wait_s < left_s)
    ]
    if not waits:
        return None, None
    call, what = min(waits, key=lambda one: one[1].wait_s)
    return (None, what.wait_s) if what.kind == FailureKind.RATE_LIMITED else (call, None)


def _kept(call: PlannedCall, left_out: tuple[tuple[str, str], ...]) -> Sifted:
    name = call.deployment.name
    others = tuple(one for one in left_out if one[0] != name)
    return Sifted((call,), others, despite=frozenset({name}))


def too_late(obstacles: Sequence[Obstacle], left_out: Sequence[tuple[str, str]]) -> JobError:
    """The end of a job whose deadline is before any deployment takes calls again."""
    said = "; ".join(f"{name}: {reason}" for name, reason in left_out[:6])
    return JobError.of(
        ErrorCode.PROVIDER_UNAVAILABLE,
        f"no deployment takes calls before the job's deadline ({said}): submit it again later, or add a fallback",
        reason="rate_limited",
        retryable=True,
        retry_after_s=min(one.wait_s for one in obstacles),
    )
