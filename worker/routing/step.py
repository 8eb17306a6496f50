"""PlanRoute: the job gets its plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import Protocol

from producer_sdk.contract import Message
from worker.errors import JobStopped
from worker.job_run import Answer, JobRun, PlannedCall, ProceedJob
from worker.rate_card import RateCard
from worker.routing import own_keys, rules
from worker.routing.bounds import InputBounds
from worker.routing.tokens import Count
from worker.routing_file import Deployment, Provider, Tenant, Tokenizer
from worker.speed import Speed


class Speeds(Protocol):
    """What knows how fast deployments have answered."""

    async def __call__(
        self, tenant: Tenant, deployments: Callable[[], Mapping[str, Deployment]]
    ) -> Mapping[str, Speed]:
        """By name, of those among these that have answered; with the tenant's own keys, where it has some."""
        ...


class PlanRoute:
    """Lay down which deployments are tried, in which order, and at which highest cost each."""

    def __init__(
        self,
        *,
        cards: Mapping[str, RateCard],
        missing: Mapping[str, str],
        counts: Mapping[Tokenizer, Count] | None = None,
        speeds: Speeds | None = None,
        why_no_key: Callable[[Provider, Tenant], str | None] = lambda _provider, _tenant: None,
    ) -> None:
        """`cards`: prices by deployment; `missing`: why a deployment cannot be used by anybody; `why_no_key`: why it
        cannot now, or not for this tenant ("no OPENAI_API_KEY").

        `counts`: what counts a text by each vocabulary; those that are not there are replaced by bytes. `speeds`: how
        fast deployments have answered; None: that is never asked.
        """
        self._cards = cards
        self._missing = missing
        self._why_no_key = why_no_key
        self._bounds = InputBounds(counts or {})
        self._speeds = speeds

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises JobStopped when nothing is left: context_too_long, cost_limit or provider_unavailable."""
        missing = own_keys.missing(job_run, self._missing, why_no_key=self._why_no_key)
        usable = rules.usable(job_run, cards=self._cards, missing=missing)
        bounds = await self._bounds.of(job_run, usable)
        tenant, known = job_run.known_tenant(), job_run.routing.deployments
        speeds = await self._speeds(tenant, known) if self._speeds else {}
        planned = rules.plan(
            job_run,
            cards=self._cards,
            missing=missing,
            bounds=bounds,
            speeds=speeds,
            left_ms=1000 * job_run.remaining_s(),
            passing=own_keys.passing(job_run, missing, self._missing),
        )
        planned = replace(planned, plan=own_keys.marked(planned.plan, tenant))
        job_run.plan = planned.plan
        job_run.max_output_tokens = planned.max_output_tokens
        job_run.story.note("plan", "made", **rules.told(planned))
        if planned.error:
            raise JobStopped(planned.error)
        return await proceed(job_run)

    def untimed(self) -> PlanRoute:
        """The same without speeds: whatever a job might be planned to cost, however fast its deployments are then."""
        plan = copy(self)
        plan._speeds = None
        return plan

    async def followed_up(
        self, job_run: JobRun, call: PlannedCall, messages: tuple[Message, ...]
    ) -> PlannedCall | None:
        """A call of the plan that says these messages after the job's own; None where its window is too small."""
        longer = replace(job_run, messages=(*job_run.messages, *messages))
        bound = (await self._bounds.of(longer, [call.deployment]))[call.deployment.name]
        longer_call = rules.followed_up(
            call, messages, bound=bound, max_output_tokens=job_run.max_output_tokens
        )
        return longer_call and own_keys.charged(longer_call, job_run.known_tenant())
