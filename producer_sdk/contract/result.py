"""What a producer gets back: one result per job, its usage, cost and, where it failed, the error."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, JsonValue

from producer_sdk.contract.codes import MEANINGS, ErrorCode
from producer_sdk.contract.job import Frozen, ToolCall
from producer_sdk.contract.vectors import Vectors

JobStatus = Literal["succeeded", "failed", "rejected", "cancelled", "expired"]
CacheTier = Literal["none", "exact", "semantic", "coalesced", "provider"]


class Usage(Frozen):
    """Token counts; `input_tokens` is the total, of which cache reads and writes are parts."""

    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0
    cache_read_tokens: Annotated[int, Field(ge=0)] = 0
    cache_write_tokens: Annotated[int, Field(ge=0)] = 0
    reasoning_tokens: Annotated[int, Field(ge=0)] = 0


class Citation(Frozen):
    """A quote found in a given document, from character `start` to `end`."""

    document_id: str
    quote: str
    start: int
    end: int


class Finding(Frozen):
    """What a safety rule saw, and what was done about it. Never carries the text itself."""

    rule: str
    where: str
    action: Literal["blocked", "redacted", "flagged"]
    detail: str = ""


class AttemptSummary(Frozen):
    """One provider call of this job, for people."""

    attempt_id: UUID
    number: int
    provider: str
    deployment: str
    model: str
    status: Literal["settled", "failed", "uncertain", "void"]
    error: str | None = None
    latency_ms: int = 0
    cost_usd: Decimal = Decimal(0)
    usage: Usage = Usage()


class JobError(Frozen):
    """Why a job has no answer. `message` is a sentence that says what to do."""

    code: ErrorCode
    status: int
    reason: str | None = None
    message: str
    retryable: bool
    retry_after_s: float | None = None
    resets_at: AwareDatetime | None = None

    @classmethod
    def of(
        cls,
        code: ErrorCode,
        message: str,
        *,
        reason: str | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        resets_at: AwareDatetime | None = None,
    ) -> JobError:
        """The error for a code, with the status and retryable that the code implies."""
        meaning = MEANINGS[code]
        return cls(
            code=code,
            status=meaning.status,
            reason=reason,
            message=message,
            retryable=meaning.retryable if retryable is None else retryable,
            retry_after_s=retry_after_s,
            resets_at=resets_at,
        )


class JobResult(Frozen):
    """The one final state of a job. `vectors` stands on the wire where the job had inputs, and only there."""

    job_id: UUID
    status: JobStatus
    text: str = ""
    tool_calls: list[ToolCall] = []
    data: JsonValue = None
    citations: list[Citation] = []
    model: str | None = None
    provider: str | None = None
    deployment: str | None = None
    usage: Usage = Usage()
    cost_usd: Decimal = Decimal(0)
    saved_usd: Decimal = Decimal(0)
    latency_ms: int = 0
    queue_ms: int = 0
    cache: CacheTier = "none"
    attempts: list[AttemptSummary] = []
    safety: list[Finding] = []
    error: JobError | None = None
    vectors: Vectors | None = Field(default=None, exclude_if=lambda vectors: vectors is None)

    @property
    def embeddings(self) -> list[list[float]]:
        """One vector for each input, in the inputs' order; none where there is no answer."""
        return self.vectors.lists() if self.vectors else []

    @classmethod
    def ended(cls, job_id: UUID, error: JobError) -> JobResult:
        """A result without an answer, in the status that the error's code ends with."""
        return cls.model_validate({"job_id": job_id, "status": MEANINGS[error.code].ends, "error": error})
