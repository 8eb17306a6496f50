"""PlanRoute: the job gets its plan."""

from __future__ import annotations

from collections.abc import Mapping

from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, ProceedJob
from worker.rate_card import RateCard
from worker.routing import rules


class PlanRoute:
    """Lay down which deployments are tried, in which order, and at which highest cost each."""

    def __init__(self, *, cards: Mapping[str, RateCard], missing: Mapping[str, str]) -> None:
        """`cards`: prices by deployment; `missing`: why a deployment cannot be used ("no OPENAI_API_KEY")."""
        self._cards = cards
        self._missing = missing

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped when nothing is left: context_too_long, cost_limit or provider_unavailable."""
        planned = rules.plan(
            job_run,
            cards=self._cards,
            missing=self._missing,
            input_bound=rules.highest_input_tokens(job_run),
        )
        job_run.plan = planned.plan
        job_run.max_output_tokens = planned.max_output_tokens
        if planned.error:
            raise JobStopped(planned.error)
        return await proceed(job_run)
