"""What the SDK raises.

FleetError
├── SettingsError       a setting is missing or wrong
├── BrokerUnavailable   the broker cannot be reached, or refuses writes
│   └── SubmitInterrupted   it went away in the middle of many; `.handles` were answered
├── ResultTimeout       the result is not there yet; the job goes on
├── ResultUnreadable    the result was written by a version that this SDK cannot read
├── UnknownJob          no job with this id (never submitted, or its result has expired)
└── JobEnded            the job has ended without an answer; `.result` and `.error` say why
    ├── JobRejected     it was refused before or instead of a call
    ├── JobFailed       it was tried and failed
    └── JobCancelled    it was cancelled, or expired before it ran
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from producer_sdk.contract import JobError, JobResult


class FleetError(Exception):
    """Base of all that the SDK raises on purpose."""


class SettingsError(FleetError):
    """A setting is missing or wrong; the text says which and what would be right."""


class BrokerUnavailable(FleetError):
    """The broker cannot be reached or takes no writes: start it, or check FAIRLANE_BROKER_URL."""


class SubmitInterrupted(BrokerUnavailable):
    """The broker went away in the middle of `submit_many`.

    `.handles` are the jobs that were answered, in order; of the chunk after them it is not known whether it was
    accepted. Submitting the same Job objects again is safe: a job_id is accepted once.
    """

    def __init__(self, message: str, handles: Sequence[Any]) -> None:
        super().__init__(message)
        self.handles = list(handles)


class ResultUnreadable(FleetError):
    """The stored result has a shape that this SDK does not know: upgrade fairlane-sdk."""


class ResultTimeout(FleetError):
    """The result was not there in time. The job is still under way: ask again, or cancel it."""


class UnknownJob(FleetError):
    """The fleet knows no job with this id."""


class JobEnded(FleetError):
    """The job has ended without an answer."""

    def __init__(self, result: JobResult) -> None:
        self.result = result
        self.error: JobError | None = result.error
        super().__init__(f"{result.error.code}: {result.error.message}" if result.error else result.status)


class JobRejected(JobEnded):
    """The fleet refused the job: see `.error.code`, `.error.retryable` and `.error.resets_at`."""


class JobFailed(JobEnded):
    """The job was tried and has failed for good."""


class JobCancelled(JobEnded):
    """The job was cancelled, or its deadline passed before it ran."""


def raise_unless_answered(result: JobResult) -> JobResult:
    """The result itself when the job succeeded; else JobRejected, JobCancelled or JobFailed."""
    if result.status == "succeeded":
        return result
    if result.status == "rejected":
        raise JobRejected(result)
    if result.status in ("cancelled", "expired"):
        raise JobCancelled(result)
    raise JobFailed(result)
