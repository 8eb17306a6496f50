"""AnswerControl: what a producer asks of the fleet itself is answered here; such a job calls no model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from producer_sdk.contract import ErrorCode, Usage
from producer_sdk.contract.sentences import explain
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, ProceedJob, utc_now

MOST_FIELDS = 200_000
# What a question's JSON must be, and who answers it.
Answering = tuple[type[BaseModel], Callable[[JobRun, Any], Awaitable[BaseModel]]]


class AnswerControl:
    """Answer the jobs whose task is the fleet's own; every other job goes on."""

    def __init__(self, answers: Mapping[str, Answering]) -> None:
        self._answers = answers

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped: unknown_tenant, expired, invalid_job, and what who answers raises."""
        job = job_run.job
        if job.task not in self._answers:
            return await proceed(job_run)
        model, answer = self._answers[job.task]
        job_run.story.note("control", "asked", task=job.task)
        job_run.tenant = job_run.routing.tenant(job.tenant)
        if job_run.tenant is None:
            raise JobStopped.of(
                ErrorCode.UNKNOWN_TENANT, f"there is no tenant '{job.tenant}': declare it in routing.yaml"
            )
        if job.deadline and job.deadline <= utc_now():
            raise JobStopped.of(ErrorCode.EXPIRED, "nobody waits for this answer any more: ask again")
        text = job.messages[0].text if job.messages else ""
        if text.count('":') > MOST_FIELDS:  # validation holds up every other job of this worker
            raise JobStopped.of(
                ErrorCode.INVALID_JOB, f"question: it has over {MOST_FIELDS} fields: ask in parts"
            )
        try:
            question = model.model_validate_json(text)
        except ValidationError as error:
            raise JobStopped.of(ErrorCode.INVALID_JOB, explain(error, "question", model)) from error
        told = await answer(job_run, question)
        return Answer("", Usage(), "", "", "", cost_pico=0, latency_ms=0, data=told.model_dump(mode="json"))
