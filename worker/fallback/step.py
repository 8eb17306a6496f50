"""CallWithFallback: the plan's deployments in order, each attempt through its own steps, under one deadline."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import redis.exceptions

from producer_sdk.contract import ErrorCode, JobError, Message, to_pico, to_usd
from worker.errors import DeploymentUnavailable, HandBack, JobStopped, ProviderError, RetryLater
from worker.fallback import hedging, rules
from worker.job_run import (
    Answer,
    Attempt,
    JobRun,
    PlannedCall,
    ProceedAttempt,
    ProceedJob,
    too_slow,
    utc_now,
)


class RetryGrant(Protocol):
    """The retry budget's answer, as this room reads it: rooms do not import each other."""

    @property
    def allowed(self) -> bool:
        """Whether the retry may be made."""
        ...

    @property
    def retry_after_s(self) -> float:
        """Seconds until one may be made."""
        ...


class FollowUp(Protocol):
    """What plans a call that says more than the job's own messages."""

    async def __call__(
        self, job_run: JobRun, call: PlannedCall, messages: tuple[Message, ...]
    ) -> PlannedCall | None:
        """The call with these messages after the others, at what it may cost; None where its window is too small."""
        ...


class RetryBudget(Protocol):
    """What this room needs of the tenants' retry budget."""

    async def take(
        self, tenant: str, op_id: str, floor_per_min: int, *, is_hedge: bool = False
    ) -> RetryGrant:
        """Take the token for one retry, once per operation id."""
        ...


@dataclass
class _Chain:
    """What this delivery has met so far."""

    waiting: list[PlannedCall]
    standby: PlannedCall | None = None
    failures: list[rules.Failed] = field(default_factory=list)
    too_dear: list[PlannedCall] = field(default_factory=list)
    too_slow: list[str] = field(default_factory=list)
    put_off: dict[str, DeploymentUnavailable] = field(default_factory=dict)  # until it is called
    waits: int = 0
    refused: JobError | None = None
    hedged: bool = False
    tries: Counter[str] = field(default_factory=Counter)


class CallWithFallback:
    """Try each deployment of the plan until one answers; the last step of a job, so it never proceeds."""

    def __init__(
        self,
        *,
        proceed_attempt: ProceedAttempt,
        retry_budget: RetryBudget,
        follow_up: FollowUp,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._proceed_attempt = proceed_attempt
        self._retry_budget = retry_budget
        self._follow_up = follow_up
        self._jitter = jitter

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """The first answer. Raises JobStopped when there is none, HandBack or RetryLater when one may come later."""
        chain = _Chain(list(job_run.plan.calls), job_run.plan.standby)
        while chain.waiting:
            call = chain.waiting.pop(0)
            if job_run.remaining_s() < rules.LEAST_ATTEMPT_S:
                raise JobStopped(
                    rules.out_of_time(
                        unresolved_attempts=job_run.unresolved_attempts, attempts=len(chain.failures)
                    )
                )
            answer = await self._try(job_run, call, chain)
            if answer is not None:
                return answer
            if chain.standby and not chain.waiting and not chain.failures:
                chain.waiting, chain.standby = [chain.standby], None
        raise self._end(job_run, chain)

    async def _try(self, job_run: JobRun, call: PlannedCall, chain: _Chain) -> Answer | None:
        """One attempt; None when the chain goes on."""
        limit = job_run.known_task().max_cost_usd
        limit_pico = None if limit is None else to_pico(limit)
        if not rules.fits_cost(call, limit_pico=limit_pico, spent_pico=job_run.spent_pico):
            chain.too_dear.append(call)
            highest = f"{to_usd(call.highest_pico):f}"
            job_run.story.note("fallback", "too_dear", deployment=call.deployment.name, highest_usd=highest)
            return None
        remaining_s = job_run.remaining_s()
        if chain.failures and not rules.fits_time(call, remaining_s=remaining_s, others=bool(chain.waiting)):
            self._leave_out(job_run, chain, call, too_slow(call, 1000 * remaining_s))
            return None
        chain.tries[call.deployment.name] += 1
        attempt = self._attempt(job_run, call, others=len(chain.waiting))
        silent_s = None if chain.failures or chain.hedged else hedging.after_s(job_run, chain.waiting)
        if silent_s is not None:
            return await self._hedge(job_run, attempt, chain, silent_s)
        try:
            return await self._proceed_attempt(attempt)
        except (ProviderError, DeploymentUnavailable, JobStopped) as error:
            await self._meet(job_run, chain, attempt, error)
        return None

    def _attempt(self, job_run: JobRun, call: PlannedCall, *, others: int, beside: int = 0) -> Attempt:
        """The next attempt of the job; `beside` so many that are open."""
        number = len(job_run.attempts) + job_run.unresolved_attempts + beside + 1
        timeout_s = rules.attempt_timeout_s(job_run.remaining_s(), others=others)
        return Attempt(job_run=job_run, call=call, number=number, timeout_s=timeout_s)

    async def _hedge(
        self, job_run: JobRun, attempt: Attempt, chain: _Chain, silent_s: float
    ) -> Answer | None:
        """Likewise, with a second attempt at the next deployment where the first stays silent for so long."""

        async def second() -> Attempt | None:
            call = hedging.second_call(job_run, attempt.call, chain.waiting)
            if call is None or not await self._may_hedge(job_run, f"{attempt.id}:hedge"):
                return None
            return self._attempt(job_run, call, others=len(chain.waiting) - 1, beside=1)

        def told(other: Attempt) -> None:
            name, ms = other.call.deployment.name, int(1000 * silent_s)
            job_run.story.note("fallback", "hedged", deployment=name, silent_ms=ms)

        raced = await hedging.race(
            attempt, silent_s=silent_s, second=second, proceed=self._proceed_attempt, told=told
        )
        if raced.answer is not None:
            return raced.answer
        if raced.second:
            chain.hedged = True
            chain.tries[raced.second.call.deployment.name] += 1
            chain.waiting.pop(0)
        if raced.closed:
            chain.waiting.insert(0, raced.closed.call)
        *earlier, last = raced.ended
        for one in earlier:
            self._note(chain, one)
        if not isinstance(last.error, ProviderError | DeploymentUnavailable | JobStopped):
            raise last.error
        await self._meet(job_run, chain, last.attempt, last.error)
        return None

    def _note(self, chain: _Chain, ended: hedging.Ended) -> None:
        """What one attempt met while another was open: it has failed, or was not begun and may be again."""
        call = ended.attempt.call
        if isinstance(ended.error, ProviderError):
            chain.failures.append(rules.Failed(call, ended.error))
            chain.waiting = list(rules.worth_trying(chain.failures[-1], chain.waiting))
        else:
            chain.tries[call.deployment.name] -= 1
            chain.waiting.insert(0, call)

    async def _meet(
        self,
        job_run: JobRun,
        chain: _Chain,
        attempt: Attempt,
        error: ProviderError | DeploymentUnavailable | JobStopped,
    ) -> None:
        """Do what follows an attempt without an answer."""
        if isinstance(error, ProviderError):
            chain.failures.append(rules.Failed(attempt.call, error))
            chain.put_off.pop(attempt.call.deployment.name, None)
            await self._follow(job_run, chain, op_id=str(attempt.id))
        elif isinstance(error, DeploymentUnavailable):
            await self._wait_or_pass(job_run, chain, attempt.call, error)
        elif error.error.code == ErrorCode.BUDGET_EXCEEDED:
            chain.refused = chain.refused or error.error
        else:
            raise error

    def _leave_out(self, job_run: JobRun, chain: _Chain, call: PlannedCall, reason: str) -> None:
        """It is not tried, and the plan says why."""
        name = call.deployment.name
        chain.too_slow.append(f"{name}: {reason}")
        job_run.plan = replace(job_run.plan, left_out=(*job_run.plan.left_out, (name, reason)))
        job_run.story.note("fallback", "left_out", deployment=name, why=reason)

    async def _follow(self, job_run: JobRun, chain: _Chain, *, op_id: str) -> None:
        """Do what the rules decide after the chain's last failure."""
        failed = chain.failures[-1]
        decision = rules.after(
            failed,
            rest=chain.waiting,
            tries_here=chain.tries[failed.call.deployment.name],
            failed_here=rules.failed_at(failed.call.deployment.name, chain.failures),
            remaining_s=job_run.remaining_s(),
            left_s=job_run.left_s(),
            waited_ms=job_run.queue_ms,
            billed=_may_be_billed(chain),
            jitter=self._jitter(),
            again=await self._corrected(job_run, chain),
        )
        job_run.story.note("fallback", decision.move, **rules.told(decision, chain.failures))
        if decision.move == "stop":
            raise self._end(job_run, chain)
        if decision.pays:
            await self._pay(job_run, op_id)
        if decision.move == "hand_back":
            raise HandBack(decision.reason, delay_ms=int(decision.delay_s * 1000) + 1)
        chain.waiting = list(decision.rest) if decision.move == "next" else [failed.call, *chain.waiting]
        if decision.delay_s:
            job_run.on_wait()
            await asyncio.sleep(decision.delay_s)

    async def _wait_or_pass(
        self, job_run: JobRun, chain: _Chain, call: PlannedCall, unavailable: DeploymentUnavailable
    ) -> None:
        """Nothing was called. The next deployment is asked; where none is left, a short wait is made here."""
        chain.tries[call.deployment.name] -= 1
        wait_ms = int(unavailable.wait_s * 1000)
        job_run.story.note("fallback", "no_call_taken", why=str(unavailable), wait_ms=wait_ms)
        if unavailable.is_broken and any(f.call.deployment == call.deployment for f in chain.failures):
            return  # it has failed this very job: the chain ends with that, and waits for nothing
        chain.put_off[call.deployment.name] = unavailable
        chain.waits += 1
        wait_s = rules.wait_here_s(unavailable.wait_s, waits=chain.waits, may_leave=not _may_be_billed(chain))
        if wait_s is None or chain.waiting:
            return
        pause_s = wait_s * (0.75 + self._jitter() / 2)
        if pause_s < job_run.remaining_s():
            chain.waiting = [call]
            job_run.on_wait()
            await asyncio.sleep(pause_s)

    async def _corrected(self, job_run: JobRun, chain: _Chain) -> PlannedCall | None:
        """The last call with its wrong answer and what was wrong, if it is made."""
        wrong = rules.to_correct(chain.failures)
        if wrong is None:
            return None
        return await self._follow_up(job_run, chain.failures[-1].call, wrong.follow_up)

    async def _may_hedge(self, job_run: JobRun, op_id: str) -> bool:
        """Whether the tenant pays for a hedge, which is never waited for."""
        tenant = job_run.known_tenant()
        try:
            floor = tenant.tier.retries_per_min
            grant = await self._retry_budget.take(tenant.name, op_id, floor, is_hedge=True)
        except redis.exceptions.RedisError:
            return False
        return grant.allowed

    async def _pay(self, job_run: JobRun, op_id: str) -> None:
        tenant = job_run.known_tenant()
        grant = await self._retry_budget.take(tenant.name, op_id, tenant.tier.retries_per_min)
        if not grant.allowed:
            raise JobStopped.of(
                ErrorCode.RETRY_CAP,
                f"an attempt failed and tenant '{tenant.name}' has used up its retries (tier '{tenant.tier.name}'): "
                f"wait {grant.retry_after_s:.0f} s, and find out why so many fail",
                reason="fallback",
                retry_after_s=grant.retry_after_s,
            )

    def _end(self, job_run: JobRun, chain: _Chain) -> JobStopped | RetryLater | HandBack:
        """What ends a chain without an answer."""
        put_off_s = rules.put_off_s(
            [one.wait_s for one in chain.put_off.values()],
            chain.failures,
            cools_s=job_run.plan.wait_s,
            refused=chain.refused is not None,
            left_s=job_run.left_s(),
            waited_ms=job_run.queue_ms,
            jitter=self._jitter(),
        )
        if put_off_s is not None:
            return HandBack("its deployments take no calls now", delay_ms=int(put_off_s * 1000) + 1)
        if chain.refused and not chain.failures and job_run.job.on_budget == "park":
            parked_s = rules.parked_s(chain.refused, now=utc_now(), jitter=self._jitter())
            if parked_s is not None:
                return HandBack("parked until its budget has room", delay_ms=int(parked_s * 1000))
        delay_s = rules.later_s(
            chain.failures,
            lane=job_run.job.lane,
            retries=job_run.retries,
            left_s=job_run.left_s(),
            jitter=self._jitter(),
        )
        if delay_s is not None and chain.refused is None and not chain.too_dear:
            return RetryLater("every deployment failed for now", delay_ms=int(delay_s * 1000))
        return JobStopped(
            rules.ending(
                chain.failures,
                refused=chain.refused,
                too_dear=chain.too_dear,
                spent_pico=job_run.spent_pico,
                put_off=[str(one) for one in chain.put_off.values()],
                skipped=chain.too_slow,
            )
        )


def _may_be_billed(chain: _Chain) -> bool:
    """Whether some attempt of it may have been paid for, so that it must not begin anew."""
    return any(failed.error.billed != "no" for failed in chain.failures)
