"""What the worker raises. Each class says what becomes of the job.

WorkerError
├── ConfigError          a setting or routing.yaml is wrong: the process does not start, or keeps the old file
├── FleetDown            the embedded fleet cannot start, or one of its processes cannot be kept running
├── JobStopped           a step ends the job: its `.error` becomes the job's result
├── JobInterrupted       the job ends nowhere here, no result is written
│   ├── LeaseLost        another worker owns the job now: stop, book what was spent, write nothing
│   ├── HandBack         the job goes back to its lane, uncounted, after `.delay_ms`
│   └── RetryLater       the job is retried after `.delay_ms`, as a Celery retry: the tenant's retry budget pays
├── LedgerUnavailable    the database did not answer: nothing may be called or acked
├── LedgerRefused        the database refuses one row for what is in it: that job ends as `internal`
├── BudgetUnavailable    Redis did not answer for the windows of a budget: nothing may be called
├── JournalRefused       an attempt admitted by old counters, or voided by the reaper: reserve anew
├── DeploymentUnavailable  a deployment takes no call now: fallback asks the next one, or the job waits in its lane
└── ProviderError        one attempt failed; fallback decides what follows
    └── WrongAnswer      (job_run) it was answered, and the answer is not what the job asked for
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from producer_sdk.contract import ErrorCode, JobError, Usage

Billed = Literal["no", "yes", "unknown"]


class WorkerError(Exception):
    """Base of all that the worker raises on purpose."""


class ConfigError(WorkerError):
    """A setting or routing.yaml is wrong; the text says where, what was found and what would be right."""


class FleetDown(WorkerError):
    """The embedded fleet cannot start or go on; the text says which process, why, and what to do."""


class LedgerUnavailable(WorkerError):
    """The ledger's database did not answer in time."""


class LedgerRefused(WorkerError):
    """The database refuses one row, whatever is tried: a defect, or content that no column takes."""


class BudgetUnavailable(WorkerError):
    """Redis did not answer for a budget's windows, or its books could not be made to agree with SQL."""


class JournalRefused(WorkerError):
    """The journal did not take the attempt: its epoch has passed, or the reaper has voided it."""


class JobStopped(WorkerError):
    """A step ends the job with this error."""

    def __init__(self, error: JobError) -> None:
        self.error = error
        super().__init__(f"{error.code}: {error.message}")

    @classmethod
    def of(
        cls,
        code: ErrorCode,
        message: str,
        *,
        reason: str | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        resets_at: datetime | None = None,
    ) -> JobStopped:
        """The stop for a code; see JobError.of."""
        return cls(
            JobError.of(
                code,
                message,
                reason=reason,
                retryable=retryable,
                retry_after_s=retry_after_s,
                resets_at=resets_at,
            )
        )


class JobInterrupted(WorkerError):
    """The job ends nowhere in this worker: no result is written here."""


class LeaseLost(JobInterrupted):
    """The job's delivery is no longer this worker's."""


class HandBack(JobInterrupted):
    """The job goes back to its lane without counting as a delivery."""

    def __init__(self, why: str, *, delay_ms: int = 0) -> None:
        super().__init__(why)
        self.delay_ms = delay_ms


class RetryLater(JobInterrupted):
    """Every deployment has failed for now, and the job has time to try again later."""

    def __init__(self, why: str, *, delay_ms: int) -> None:
        super().__init__(why)
        self.delay_ms = delay_ms


class DeploymentUnavailable(WorkerError):
    """A deployment takes no call now: it is paused, cools down, is full, or its breaker is open (`is_broken`)."""

    def __init__(self, why: str, *, wait_s: float, is_broken: bool = False) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        self.is_broken = is_broken


class FailureKind(StrEnum):
    """How an attempt failed (the classes of provider errors)."""

    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONNECT_ERROR = "connect_error"
    TIMEOUT = "timeout"
    STREAM_BROKEN = "stream_broken"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_BLOCKED = "content_blocked"
    INVALID_REQUEST = "invalid_request"
    AUTH = "auth"
    INVALID_OUTPUT = "invalid_output"
    CANCELLED = "cancelled"


# Codes of failures of ours that say nothing about a provider.
NO_KEY, KEY_CHANGED = "no_key", "key_changed"


class ProviderError(WorkerError):
    """One attempt failed. `billed` says what is known of its cost; `usage` what the provider reported.

    `once_only`: the provider says that the same request is not worth repeating; `model_unknown`: it does not have, or
    not any more, the model that was asked for, whatever the request says.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: int | None = None,
        billed: Billed = "no",
        usage: Usage | None = None,
        retry_after_s: float | None = None,
        code: str | None = None,
        once_only: bool = False,
        model_unknown: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.billed: Billed = billed
        self.usage = usage
        self.retry_after_s = retry_after_s
        self.code = code
        self.once_only = once_only
        self.model_unknown = model_unknown
