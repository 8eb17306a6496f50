"""Chains of attempts through CallWithFallback, by what each attempt meets."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from producer_sdk.contract import Message
from tests.worker.job_runs import Rest, card, deployment, run_of
from worker.errors import FailureKind as Kind
from worker.errors import JobStopped, ProviderError
from worker.fallback.step import CallWithFallback
from worker.job_run import JobRun, Plan, PlannedCall
from worker.retries.store import RetryBudget


def planned(*names: str, highest_pico: int = 1_000, **fields) -> JobRun:
    calls = tuple(PlannedCall(deployment(name), "small", card(), highest_pico) for name in names)
    fields.setdefault("deadline", time.monotonic() + 30)
    return run_of(fields.pop("job", None), plan=Plan(calls), **fields)


def error(kind: Kind, **fields) -> ProviderError:
    return ProviderError(kind, "no", **fields)


async def dearer(_job_run: JobRun, call: PlannedCall, messages: tuple[Message, ...]) -> PlannedCall | None:
    """What plans a re-ask, as PlanRoute does: the longer call may cost more."""
    return replace(call, highest_pico=call.highest_pico + 100, follow_up=messages)


async def called(job_run: JobRun, attempts: Rest, budget: RetryBudget):
    step = CallWithFallback(
        proceed_attempt=attempts, retry_budget=budget, follow_up=dearer, jitter=lambda: 0.0
    )
    return await step.run(job_run, Rest())


async def ended(job_run: JobRun, attempts: Rest, budget: RetryBudget):
    with pytest.raises(JobStopped) as stopped:
        await called(job_run, attempts, budget)
    return stopped.value.error


def tried(attempts: Rest) -> list[str]:
    return [attempt.call.deployment.model for attempt in attempts.saw]
