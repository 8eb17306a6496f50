"""PlanRoute: the job gets its plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from producer_sdk.contract import Message
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, PlannedCall, ProceedJob
from worker.rate_card import RateCard
from worker.routing import rules
from worker.routing.bounds import InputBounds
from worker.routing.tokens import Count
from worker.routing_file import Tokenizer


class PlanRoute:
    """Lay down which deployments are tried, in which order, and at which highest cost each."""

    def __init__(
        self,
        *,
        cards: Mapping[str, RateCard],
        missing: Mapping[str, str],
        counts: Mapping[Tokenizer, Count] | None = None,
    ) -> None:
        """`cards`: prices by deployment; `missing`: why a deployment cannot be used ("no OPENAI_API_KEY").

        `counts`: what counts a text by each vocabulary; those that are not there are replaced by bytes.
        """
        self._cards = cards
        self._missing = missing
        self._bounds = InputBounds(counts or {})

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped when nothing is left: context_too_long, cost_limit or provider_unavailable."""
        usable = rules.usable(job_run, cards=self._cards, missing=self._missing)
        bounds = await self._bounds.of(job_run, usable)
        planned = rules.plan(job_run, cards=self._cards, missing=self._missing, bounds=bounds)
        job_run.plan = planned.plan
        job_run.max_output_tokens = planned.max_output_tokens
        job_run.story.note("plan", "made", **rules.told(planned))
        if planned.error:
            raise JobStopped(planned.error)
        return await proceed(job_run)

    async def followed_up(
        self, job_run: JobRun, call: PlannedCall, messages: tuple[Message, ...]
    ) -> PlannedCall | None:
        """A call of the plan that says these messages after the job's own; None where its window is too small."""
        longer = replace(job_run, messages=(*job_run.messages, *messages))
        bound = (await self._bounds.of(longer, [call.deployment]))[call.deployment.name]
        return rules.followed_up(call, messages, bound=bound, max_output_tokens=job_run.max_output_tokens)
