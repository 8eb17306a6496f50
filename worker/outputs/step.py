"""StateForm and CheckAnswer: the model is told which form its answer must have, and no other one ends the job."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from worker.errors import JobStopped
from worker.job_run import Answer, Attempt, JobRun, ProceedAttempt, ProceedJob, WrongAnswer
from worker.outputs import rules

LARGE_CHARACTERS = 20_000  # some 2 ms of comparing quotes: more, and every schema, goes to a thread


class StateForm:
    """Tell the model how to cite, where the task requires it; end a job that no answer could satisfy."""

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped (invalid_job): nothing to cite, or a response_schema that cannot be used."""
        job, task = job_run.job, job_run.known_task()
        if job.params.response_schema is None:
            impossible = rules.impossible(job, task)
        else:
            impossible = await asyncio.to_thread(rules.impossible, job, task)
        if impossible:
            raise JobStopped(impossible)
        job_run.answer_checks += rules.checks(job, task)
        if task.requires_citations or job.params.response_schema is not None:
            asked = {"citations": task.requires_citations, "schema": job.params.response_schema is not None}
            job_run.story.note("form", "asked", forms=[name for name, is_asked in asked.items() if is_asked])
        if task.requires_citations:
            job_run.messages = rules.with_form(job_run.messages)
        return await proceed(job_run)


class CheckAnswer:
    """Fill in an answer's data and citations, or refuse it. One that calls tools is not the last: it goes through."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """Raises WrongAnswer for an answer that does not cite or fit as the job asks."""
        answer = await proceed(attempt)
        job_run = attempt.job_run
        if not rules.checks(job_run.job, job_run.known_task()) or answer.tool_calls:
            return answer
        found = await self._found(job_run, answer.text)
        if found.code:
            again = rules.asked_again(answer.text, found)
            raise WrongAnswer(answer, code=found.code, wrong=found.wrong, follow_up=again, noted=found.noted)
        return replace(answer, data=found.data, citations=found.citations)

    async def _found(self, job_run: JobRun, text: str) -> rules.Verdict:
        job, task = job_run.job, job_run.known_task()
        characters = len(text) + sum(len(document.text) for document in job.documents)
        if job.params.response_schema is None and characters <= LARGE_CHARACTERS:
            return rules.verdict(job, task, text)
        return await asyncio.get_running_loop().run_in_executor(self._thread, rules.verdict, job, task, text)
