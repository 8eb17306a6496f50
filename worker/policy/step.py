"""EndStopped and ApplyPolicy: whether a job runs at all, and within which limits."""

from __future__ import annotations

import time

from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, ProceedJob, utc_now
from worker.policy import rules


class EndStopped:
    """End a job that its lane has stopped: it was cancelled, has expired, or was delivered too often."""

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped when the lane says so."""
        if job_run.stop is not None:
            raise JobStopped(
                rules.end_of_stopped(
                    job_run.stop,
                    deliveries=job_run.deliveries,
                    unresolved_attempts=job_run.unresolved_attempts,
                )
            )
        return await proceed(job_run)


class ApplyPolicy:
    """Find the tenant and the task, and set the aliases, the longest answer and the deadline."""

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped: unknown_tenant, unknown_task, policy_denied, expired, uncertain."""
        job, now = job_run.job, time.monotonic()
        permission = rules.permit(job, job_run.routing)
        if not isinstance(permission, rules.Permission):
            job_run.story.note("policy", "refused", code=str(permission.code))
            raise JobStopped(permission)
        job_run.tenant = permission.tenant
        job_run.task = permission.task
        job_run.aliases = permission.aliases
        job_run.max_output_tokens = permission.max_output_tokens
        deadline_in_s = (job.deadline - utc_now()).total_seconds() if job.deadline else None
        if deadline_in_s is not None and deadline_in_s <= 0:
            unresolved = job_run.unresolved_attempts
            raise JobStopped(rules.uncertain(unresolved) if unresolved else rules.past_deadline())
        job_run.deadline = rules.deadline(
            started=job_run.started,
            now=now,
            max_latency_ms=permission.task.max_latency_ms,
            deadline_in_s=deadline_in_s,
        )
        job_run.story.note("policy", "allowed", **rules.told(permission, deadline_in_s=job_run.remaining_s()))
        return await proceed(job_run)
