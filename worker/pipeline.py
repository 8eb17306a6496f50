"""The steps in order: of a job, and, inside its fallback, of each attempt. The only place that knows the order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from worker.budget.step import HoldBudget
from worker.cache.step import AnswerFromCache
from worker.fallback.step import CallWithFallback
from worker.job_run import Attempt, AttemptStep, JobRun, JobStep, ProceedAttempt, ProceedJob
from worker.ledger.step import JournalAttempt, RecordJob
from worker.policy.step import ApplyPolicy, EndStopped
from worker.providers.step import CallProvider
from worker.retries.step import CapRetries
from worker.routing.step import PlanRoute
from worker.safety.step import ScreenContent

S = TypeVar("S")

JOB_STEPS: tuple[tuple[type[JobStep], str], ...] = (
    (
        RecordJob,
        "first: an answered job is never called again, and however the rest ends is its one final row",
    ),
    (EndStopped, "a job that was cancelled, expired or given up in its lane costs nothing more"),
    (ApplyPolicy, "everything after it needs to know the tenant's tier and the task's limits"),
    (CapRetries, "before any work is done for a job that an agent resubmits in a loop"),
    (ScreenContent, "before a cache key or a plan is made of the content, and before any model sees it"),
    (
        AnswerFromCache,
        "after safety, so that only screened content is ever a key; before anything costs money",
    ),
    (PlanRoute, "needs the screened content's size and the tier's aliases"),
    (CallWithFallback, "last: it walks the plan, each attempt through the steps below"),
)

ATTEMPT_STEPS: tuple[tuple[type[AttemptStep], str], ...] = (
    (
        HoldBudget,
        "outermost: reserves before the journal, and settles in Redis what the journal settled in SQL",
    ),
    (JournalAttempt, "SQL knows of the call before it is made, and of its cost before Redis does"),
    (CallProvider, "the call itself"),
)


def job_pipeline(steps: Iterable[JobStep]) -> ProceedJob:
    """One function that carries a job through every step, in JOB_STEPS' order."""
    return _through(in_order(JOB_STEPS, steps), _no_end)


def attempt_pipeline(steps: Iterable[AttemptStep]) -> ProceedAttempt:
    """One function that carries an attempt through every step, in ATTEMPT_STEPS' order."""
    return _through(in_order(ATTEMPT_STEPS, steps), _no_end)


def in_order(order: Sequence[tuple[type[S], str]], steps: Iterable[S]) -> tuple[S, ...]:
    """The given steps, one of each class, in the order's order."""
    by_class = {type(step): step for step in steps}
    return tuple(by_class[step_class] for step_class, _reason in order)


def _through(steps: Sequence[Any], end: Callable[..., Any]) -> Callable[..., Any]:
    proceed = end
    for step in reversed(steps):
        proceed = partial(step.run, proceed=proceed)
    return proceed


async def _no_end(_run: JobRun | Attempt) -> None:
    raise AssertionError("the last step of a pipeline does not proceed")
