"""AvoidUnhealthy and WatchDeployment: which deployments of a plan are asked now, and what each call teaches."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace

from pydantic import JsonValue

from worker.errors import DeploymentUnavailable, HandBack, JobStopped, ProviderError
from worker.health import rules
from worker.health.store import Begun, HealthStore
from worker.job_run import Answer, Attempt, JobRun, ProceedAttempt, ProceedJob
from worker.routing_file import Deployment

logger = logging.getLogger(__name__)


class AvoidUnhealthy:
    """Take out of the plan what takes no calls now, each with its reason; the last one left is never taken out."""

    def __init__(self, store: HealthStore, *, jitter: Callable[[], float] = random.random) -> None:
        self._store = store
        self._jitter = jitter

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises HandBack when waiting in the lane helps, JobStopped when the job's deadline is before that."""
        view, age_s = await self._store.view(job_run.routing.deployments)
        sifted = rules.sift(
            job_run.plan.calls,
            view,
            age_s=age_s,
            left_s=job_run.left_s(),
            waited_ms=job_run.queue_ms,
            jitter=self._jitter(),
        )
        left_out = job_run.plan.left_out + sifted.left_out
        job_run.plan = replace(
            job_run.plan,
            calls=sifted.calls,
            left_out=left_out,
            despite=sifted.despite,
            standby=sifted.standby,
            wait_s=sifted.wait_s,
        )
        if sifted.left_out or sifted.despite:
            why: list[JsonValue] = [{"deployment": name, "why": reason} for name, reason in sifted.left_out]
            job_run.story.note("health", "left_out", left_out=why, despite=[*sorted(sifted.despite)] or None)
        if sifted.error:
            raise JobStopped(sifted.error)
        if sifted.hand_back_s is not None:
            name, reason = sifted.left_out[0]
            raise HandBack(f"{name}: {reason}", delay_ms=int(sifted.hand_back_s * 1000) + 1)
        return await proceed(job_run)


class WatchDeployment:
    """Take one of the deployment's slots for the call; afterwards tell its breaker and limits how it went."""

    def __init__(self, store: HealthStore, *, jitter: Callable[[], float] = random.random) -> None:
        self._store = store
        self._jitter = jitter

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """Raises DeploymentUnavailable when it takes no call now."""
        deployment, attempt_id = attempt.call.deployment, str(attempt.id)
        forced = deployment.name in attempt.job_run.plan.despite
        begun = await self._begun(deployment, attempt_id, forced=forced)
        if begun.refused:
            reason = rules.told(begun.refused, begun.wait_s, begun.why)
            wait_s = rules.LEAST_PAUSED_S if begun.refused == "paused" else begun.wait_s
            raise DeploymentUnavailable(
                f"{deployment.name}: {reason}", wait_s=wait_s, is_broken=begun.refused in ("open", "probing")
            )
        outcome = rules.Outcome()
        try:
            answer = await proceed(attempt)
            outcome = rules.of_answer(answer.exhausted_s)
            return answer
        except ProviderError as error:
            outcome = rules.of_error(error, timeout_s=attempt.timeout_s)
            raise
        finally:
            turned = await self._store.finish(
                deployment, outcome, attempt=attempt_id, begun=begun, jitter=self._jitter()
            )
            if turned.to == "opened":
                logger.warning(
                    "%s: breaker opened for %.0f s: %s", deployment.name, turned.open_s, turned.why
                )
            elif turned.to == "closed":
                logger.warning("%s: breaker closed, it answers again", deployment.name)
            if outcome.cool and outcome.cool.kind != "rate_limited":
                logger.warning(
                    "%s: not called for %.0f s, %s: %s",
                    deployment.name,
                    outcome.cool.left_s,
                    outcome.cool.kind,
                    outcome.cool.why,
                )

    async def _begun(self, deployment: Deployment, attempt_id: str, *, forced: bool) -> Begun:
        """Whether the call may be made. Cut off while that is asked, a slot may be taken already: it is given back."""
        try:
            return await self._store.begin(deployment, attempt=attempt_id, forced=forced)
        except asyncio.CancelledError:
            await self._store.finish(
                deployment, rules.Outcome(), attempt=attempt_id, begun=Begun(), jitter=self._jitter()
            )
            raise
