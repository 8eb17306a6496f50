"""The steps in order: of a job, and, inside its fallback, of each attempt. The only place that knows the order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from producer_sdk.contract import Usage
from worker.budget.step import HoldBudget
from worker.cache.step import AnswerFromCache
from worker.control import AnswerControl
from worker.errors import JobStopped
from worker.fallback.step import CallWithFallback
from worker.health.step import AvoidUnhealthy, WatchDeployment
from worker.job_run import Answer, Attempt, AttemptStep, JobRun, JobStep, ProceedAttempt, ProceedJob
from worker.ledger.step import JournalAttempt, RecordJob
from worker.outputs.step import CheckAnswer, StateForm
from worker.policy.step import ApplyPolicy, EndStopped
from worker.providers.step import CallProvider
from worker.retries.step import CapRetries, RememberFailures
from worker.routing.step import PlanRoute
from worker.runs.step import CapRun
from worker.safety.step import ScreenContent
from worker.streaming.step import StreamAnswer, StreamText

S = TypeVar("S")

JOB_STEPS: tuple[tuple[type[JobStep], str], ...] = (
    (StreamAnswer, "outermost: what it says at the end is the final row's answer, whoever has written that"),
    (
        RecordJob,
        "before all work: an answered job is never called again, and however the rest ends is its one final row",
    ),
    (RememberFailures, "before whatever may end a job as failed: what killed its workers is known again too"),
    (EndStopped, "a job that was cancelled, expired or given up in its lane costs nothing more"),
    (
        AnswerControl,
        "what is asked of the fleet itself: no routing.yaml names its tasks, no policy limits it",
    ),
    (ApplyPolicy, "everything after it needs to know the tenant's tier and the task's limits"),
    (
        CapRun,
        "needs the tier; before the retry budget: what a run may not do any more neither pays nor deposits",
    ),
    (CapRetries, "before any work is done for a job that an agent resubmits in a loop"),
    (ScreenContent, "before a cache key or a plan is made of the content, and before any model sees it"),
    (
        StateForm,
        "after safety, whose fences hold the documents to cite; before the cache, the plan and all money: a job that "
        "no answer can satisfy costs nothing, and what is added to the prompt is counted",
    ),
    (
        AnswerFromCache,
        "after safety, so that only screened content is ever a key; before anything costs money",
    ),
    (PlanRoute, "needs the screened content's size and the tier's aliases"),
    (AvoidUnhealthy, "of a plan that the job alone would get, what takes no calls now is left out"),
    (CallWithFallback, "last: it walks the plan, each attempt through the steps below"),
)

ATTEMPT_STEPS: tuple[tuple[type[AttemptStep], str], ...] = (
    (WatchDeployment, "outermost: where a deployment takes no call, nothing is reserved or written"),
    (HoldBudget, "reserves before the journal, and settles in Redis what the journal settled in SQL"),
    (JournalAttempt, "SQL knows of the call before it is made, and of its cost before Redis does"),
    (
        CheckAnswer,
        "inside the journal: a wrong answer is settled as a failed attempt that was paid, and never ends its job",
    ),
    (StreamText, "inside the check: where it may refuse an answer, nobody hears that while it is given"),
    (CallProvider, "the call itself"),
)


# A batch's line is priced by the steps that would price its job, and by nothing else.
PRICING_STEPS: tuple[tuple[type[JobStep], str], ...] = (
    (ApplyPolicy, "the tier's aliases and the longest answer"),
    (ScreenContent, "fences make the content longer"),
    (StateForm, "what it adds makes the content longer too, and what it refuses costs nothing"),
    (PlanRoute, "the deployments, and the most that each may cost"),
)


def pricing_pipeline(steps: Iterable[JobStep]) -> Callable[[JobRun], Awaitable[int]]:
    """The most that one attempt of a job may cost, in pico-dollars; 0 where no step lets it be called."""
    through = _through(in_order(PRICING_STEPS, steps), _dearest)

    async def highest(job_run: JobRun) -> int:
        try:
            answer: Answer = await through(job_run)
        except JobStopped:
            return 0
        return answer.cost_pico

    return highest


async def _dearest(job_run: JobRun) -> Answer:
    highest = max(call.highest_pico for call in job_run.plan.calls)
    return Answer("", Usage(), "", "", "", cost_pico=highest, latency_ms=0)


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
