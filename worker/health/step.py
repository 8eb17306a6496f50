"""AvoidUnhealthy and WatchDeployment: which deployments of a plan are asked now, and what each call teaches."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from pydantic import JsonValue

from worker.errors import DeploymentUnavailable, HandBack, JobStopped, ProviderError
from worker.health import rules
from worker.health.rules import View
from worker.health.store import Begun, HealthStore
from worker.health.watching import Unwatched, Watch, tell_end
from worker.job_run import Answer, Attempt, JobRun, ProceedAttempt, ProceedJob
from worker.routing_file import Deployment

logger = logging.getLogger(__name__)


class AvoidUnhealthy:
    """Take out of the plan what takes no calls now, each with its reason; the last one left is never taken out."""

    def __init__(
        self,
        store: HealthStore,
        *,
        jitter: Callable[[], float] = random.random,
        renewed: Callable[[], Collection[tuple[str, str]]] = tuple,
    ) -> None:
        """`renewed`: providers whose key has been replaced since it was asked, with the tenant if it is its own."""
        self._store = store
        self._jitter = jitter
        self._renewed = renewed

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Raises HandBack when waiting in the lane helps, JobStopped when the job's deadline is before that."""
        view, age_s = await self._view(job_run)
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

    async def _view(self, job_run: JobRun) -> tuple[View, float]:
        """As the job's tenant finds it, with what a replaced key had met forgotten."""
        known, tenant = job_run.routing.deployments, job_run.known_tenant()
        for provider, whose in self._renewed():
            logger.warning("the key of %s was replaced%s", provider, f" by {whose}" if whose else "")
            await self._store.forgive(
                [one for one in known().values() if one.provider.name == provider], whose=whose
            )
        return await self._store.view_of(tenant, known)


class WatchDeployment:
    """Take one of the deployment's slots for the call; afterwards tell its breaker and limits how it went."""

    def __init__(
        self,
        store: HealthStore,
        *,
        watch: Watch | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._watch = watch or Unwatched()
        self._jitter = jitter

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """Raises DeploymentUnavailable when it takes no call now."""
        deployment, attempt_id = attempt.call.deployment, str(attempt.id)
        plan = attempt.job_run.plan
        # the last one left is never closed to a job
        forced = deployment.name in plan.despite or len(plan.calls) == 1
        whose = attempt.job_run.job.tenant if attempt.call.own_key else ""
        begun = await self._begun(deployment, attempt_id, forced=forced, whose=whose)
        if begun.refused:
            self._watch.refused(deployment, why=begun.refused)
            reason = rules.told(begun.refused, begun.wait_s, begun.why)
            wait_s = rules.put_off_s(begun.refused, begun.wait_s)
            raise DeploymentUnavailable(
                f"{deployment.name}: {reason}", wait_s=wait_s, is_broken=begun.refused in ("open", "probing")
            )
        outcome, took = rules.Outcome(), None
        ended_with, started = None, time.monotonic()
        try:
            answer = await proceed(attempt)
            outcome, took = rules.of_answer(answer.exhausted_s), rules.took(answer)
            return answer
        except BaseException as error:
            ended_with = error
            if isinstance(error, ProviderError):
                resubmitted = attempt.job_run.resubmitted
                outcome = rules.of_error(error, timeout_s=attempt.timeout_s, resubmitted=resubmitted)
            raise
        finally:
            took_s = time.monotonic() - started
            of_all = rules.Outcome() if whose else outcome  # a tenant's own key troubles its calls alone
            tell_end(self._watch, deployment, ended_with, of_all, took_s=took_s)
            took = took or rules.silent(attempt)
            turned = await self._store.finish(
                deployment,
                outcome,
                attempt=attempt_id,
                begun=begun,
                jitter=self._jitter(),
                took=took,
                whose=whose,
            )
            if turned.to and whose:
                logger.warning("%s, with %s's own key: breaker %s", deployment.name, whose, turned.to)
            elif turned.to:
                self._watch.turned(deployment, to=turned.to, open_s=turned.open_s, why=turned.why)

    async def _begun(self, deployment: Deployment, attempt_id: str, *, forced: bool, whose: str) -> Begun:
        """Whether the call may be made. Cut off while that is asked, a slot may be taken already: it is given back."""
        try:
            return await self._store.begin(deployment, attempt=attempt_id, forced=forced, whose=whose)
        except asyncio.CancelledError:
            await self._store.finish(
                deployment,
                rules.Outcome(),
                attempt=attempt_id,
                begun=Begun(),
                jitter=self._jitter(),
                whose=whose,
            )
            raise
