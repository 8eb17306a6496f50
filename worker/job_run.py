"""What the steps speak: JobRun (one job on its way), Attempt (one provider call of it), Answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import redis.exceptions
from pydantic import JsonValue

from producer_sdk.contract import (
    MEANINGS,
    AttemptSummary,
    CacheTier,
    Citation,
    ErrorCode,
    Finding,
    Job,
    JobError,
    JobResult,
    Message,
    ToolCall,
    Usage,
    Vectors,
    created_at,
    to_usd,
    uuid7,
)
from worker.errors import FailureKind, JobInterrupted, LeaseLost, LedgerUnavailable, ProviderError
from worker.rate_card import RateCard
from worker.routing_file import Deployment, RoutingFile, TaskRule, Tenant
from worker.story import Story


@dataclass
class Lease:
    """A worker's hold on one delivery; `confirmed_until` is on the monotonic clock, in seconds."""

    tag: str
    confirmed_until: float
    lost: bool = False

    def check(self) -> None:
        """Raise LeaseLost unless the last heartbeat confirmed this delivery recently enough."""
        if self.lost or time.monotonic() > self.confirmed_until:
            raise LeaseLost("the delivery is no longer this worker's")


@dataclass(frozen=True)
class Answer:
    """What a model said (or a cache kept), with what it took."""

    text: str
    usage: Usage
    model: str
    provider: str
    deployment: str
    cost_pico: int
    latency_ms: int
    tool_calls: tuple[ToolCall, ...] = ()
    citations: tuple[Citation, ...] = ()
    data: JsonValue = None
    cache: CacheTier = "none"
    saved_pico: int = 0
    rate_card_id: str | None = None  # of the model that answered
    price_flag: str | None = None  # why the cost is only a bound: nobody knows what answered
    standing: JobResult | None = None  # the job's final row, once it is committed
    exhausted_s: float | None = None  # for how long its headers say that the provider takes no more
    first_token_ms: int | None = None  # when its first token came; of `latency_ms`
    list_pico: int | None = None  # at list, what a call with the tenant's own key cost its tenant
    vectors: Vectors | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PlannedCall:
    """One deployment of a plan, with what a call of it is predicted to cost at most.

    `predicted_ms`: how long it takes, by what the fleet has measured; None: nobody knows. `follow_up`: what this call
    says after the job's own messages: a wrong answer, and what was wrong with it. `own_key`: it is made with the
    tenant's own key, so that it costs nothing of ours.
    """

    deployment: Deployment
    alias: str
    card: RateCard
    highest_pico: int
    follow_up: tuple[Message, ...] = field(default=(), repr=False)
    predicted_ms: int | None = None
    own_key: bool = False


def too_slow(call: PlannedCall, left_ms: float) -> str:
    """Why a call is left out that is foretold to take longer than the chain has."""
    return f"too slow: about {call.predicted_ms} ms by its last answers, {max(0, int(left_ms))} ms are left"


@dataclass(frozen=True)
class Plan:
    """Deployments in the order to try, and why each other one was left out.

    `standby` is called though its breaker is open, where none of the `calls` may be made (its budget says no);
    `wait_s`: when the first of those that cool down takes calls again.
    """

    calls: tuple[PlannedCall, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    despite: frozenset[str] = frozenset()  # called though its breaker is open: no other is left
    standby: PlannedCall | None = None
    wait_s: float | None = None


@dataclass
class JobRun:
    """One delivery of one job on its way through the steps. Steps fill it in the pipeline's order."""

    job: Job
    lease: Lease
    routing: RoutingFile
    deliveries: int = 1
    retries: int = 0
    queue_ms: int = 0
    put_ms: int = 0  # when it was put into its lane, Unix ms of the broker's clock; 0: not known
    message: bytes = field(default=b"", repr=False)
    fleet: str = ""  # whose lanes it came from: their namespace
    batch_id: UUID | None = None  # the batch of its tenant that has reserved for it
    stop: str | None = None  # the lane says why it must not be called: cancelled, expired, dead
    interruption: str | None = None  # why its task is being cancelled: cancelled, soft_limit, shutdown, lost
    started: float = field(default_factory=time.monotonic)
    tenant: Tenant | None = None
    task: TaskRule | None = None
    aliases: tuple[str, ...] = ()
    max_output_tokens: int = 0
    messages: tuple[Message, ...] = field(default=(), repr=False)
    findings: list[Finding] = field(default_factory=list)
    answer_checks: tuple[
        str, ...
    ] = ()  # what may still refuse an answer that was given: till then nobody sees it
    attempts: list[AttemptSummary] = field(default_factory=list)
    spent_pico: int = 0
    unresolved_attempts: int = 0  # of earlier deliveries: their outcome is not known
    resubmitted: bool = False  # its content has failed before, as another job
    run_calls_left: int | None = None  # jobs that its run, and those above it, may still have; None: no cap
    plan: Plan = field(default_factory=lambda: Plan(()))
    deadline: float = float("inf")  # on the monotonic clock
    story: Story = field(default_factory=Story, repr=False)
    # told as its call is sent, and before it waits in its slot: its worker may begin another
    on_wait: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def job_id(self) -> UUID:
        """The job's id."""
        return self.job.job_id

    def known_tenant(self) -> Tenant:
        """The tenant, after policy has found it."""
        if self.tenant is None:
            raise AssertionError("policy runs before this step")
        return self.tenant

    def known_task(self) -> TaskRule:
        """The task's rule, after policy has found it."""
        if self.task is None:
            raise AssertionError("policy runs before this step")
        return self.task

    def comes_again(self, error: BaseException) -> bool:
        """Whether the job ends nowhere here for this error: it is handed back, or is another worker's."""
        if isinstance(error, asyncio.CancelledError):
            return self.interruption not in ("cancelled", "soft_limit")
        return isinstance(error, JobInterrupted | LedgerUnavailable | redis.exceptions.RedisError)

    def dimensions(self, deployment: Deployment) -> int:
        """How long the vectors of this deployment are to be: as the job says, its task, or the model; 0 for a chat."""
        if deployment.embedding is None:
            return 0
        asked = self.job.params.dimensions or self.known_task().dimensions
        return asked or deployment.embedding.dimensions

    def remaining_s(self) -> float:
        """Seconds until the one deadline that spans the whole chain."""
        return self.deadline - time.monotonic()

    def left_s(self) -> float:
        """Seconds until the job's own deadline, which its time in a lane counts towards."""
        deadline = self.job.deadline
        return (deadline - utc_now()).total_seconds() if deadline else float("inf")

    def result_of(self, answer: Answer) -> JobResult:
        """The job's final result for this answer."""
        return JobResult(
            job_id=self.job_id,
            status="succeeded",
            text=answer.text,
            tool_calls=list(answer.tool_calls),
            data=answer.data,
            citations=list(answer.citations),
            model=answer.model or None,
            provider=answer.provider or None,
            deployment=answer.deployment or None,
            usage=answer.usage,
            cost_usd=to_usd(self.spent_pico),
            saved_usd=to_usd(answer.saved_pico),
            latency_ms=int((time.monotonic() - self.started) * 1000),
            queue_ms=self.queue_ms,
            cache=answer.cache,
            attempts=list(self.attempts),
            safety=list(self.findings),
            vectors=answer.vectors,
        )

    def ended(self, error: JobError) -> JobResult:
        """The job's final result when it ends without an answer; what its attempts cost stays in it."""
        return JobResult(
            job_id=self.job_id,
            status=MEANINGS[error.code].ends,
            cost_usd=to_usd(self.spent_pico),
            latency_ms=int((time.monotonic() - self.started) * 1000),
            queue_ms=self.queue_ms,
            attempts=list(self.attempts),
            safety=list(self.findings),
            error=error,
        )


@dataclass
class Attempt:
    """One provider call of a job. Its id is made before it reserves and is its key everywhere."""

    job_run: JobRun
    call: PlannedCall
    number: int
    timeout_s: float
    id: UUID = field(default_factory=uuid7)
    epoch: int = 0
    windows: tuple[str, ...] = ()
    batch_id: UUID | None = None  # the batch that it draws on
    sent: bool = False  # bytes may have reached the provider
    exhausted_s: float | None = None  # as Answer's
    settled_pico: int | None = None  # None: SQL has not settled it, the reaper will
    returns_share: bool = False  # what it did not use of its share is its batch's again
    on_first_token: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    silent_ms: int | None = None  # closed without a first token after so long, for another attempt's had come
    heard: Callable[[str], None] | None = field(
        default=None, repr=False
    )  # it takes the answer's text as it comes
    made: float = field(default_factory=time.monotonic)
    called_ms: int | None = None  # after it was made
    first_byte_ms: int | None = None  # of the answer, after the call

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the provider is sent."""
        return (*self.job_run.messages, *self.call.follow_up)

    @property
    def created_at(self) -> datetime:
        """The UUID's own millisecond: the row's created_at and its window's date."""
        return created_at(self.id)

    async def speaks(self) -> None:
        """Its first token has come, or its answer's end: whoever waits for that is told, once."""
        if self.on_first_token:
            await self.on_first_token()

    def renewed(self) -> Attempt:
        """The same call under a new id, after its journal row was refused."""
        return replace(self, id=uuid7(), epoch=0, windows=(), batch_id=None, sent=False, settled_pico=None)


class WrongAnswer(ProviderError):
    """An answer that was given, and paid, and is not what the job asked for: `wrong` says why, without its words.

    `noted`: the same for the job's story, which repeats nothing of the job either. `follow_up`: what a re-ask adds.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        code: ErrorCode,
        wrong: str,
        follow_up: tuple[Message, ...],
        noted: str = "",
    ) -> None:
        super().__init__(FailureKind.INVALID_OUTPUT, wrong, billed="yes", usage=answer.usage, code=str(code))
        self.answer = answer
        self.wrong = wrong
        self.noted = noted
        self.follow_up = follow_up


class JobStep(Protocol):
    """What happens to a job at one place of the pipeline."""

    async def run(self, job_run: JobRun, proceed: ProceedJob) -> Answer:
        """Do this step's part before and after the rest."""
        ...


class AttemptStep(Protocol):
    """What happens to each attempt, inside fallback."""

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """Do this step's part before and after the rest."""
        ...


ProceedJob = Callable[[JobRun], Awaitable[Answer]]
ProceedAttempt = Callable[[Attempt], Awaitable[Answer]]


def utc_now() -> datetime:
    """Now, in UTC with its zone."""
    return datetime.now(UTC)
