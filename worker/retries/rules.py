"""What makes two jobs the same work, which ends count as failed, and how long a refused one waits in its lane."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from producer_sdk.contract import MEANINGS, AttemptSummary, ErrorCode, Job

_CONTENT = {"task", "messages", "documents", "inputs", "params", "prompt_version"}
MOST_WAIT_S = 60.0
NEVER_S = 3600.0  # what is said of a token that never comes
MOST_WAITED_MS = 86_400_000  # a replay that has found no token in a day ends
LEAST_ANSWER_MS = 2_000  # from the put of a resubmission to its refusal
ANSWER_SPREAD_MS = 1_000  # agents that began together are not refused together
SPREAD = 4.0  # many replays wait for the same token: they do not all ask for it at once


def content_hash(job: Job) -> str:
    """Equal for jobs that ask the same of the same task, whatever their ids, runs and metadata are."""
    return hashlib.sha256(job.model_dump_json(include=_CONTENT, exclude_defaults=True).encode()).hexdigest()


def is_failure(code: ErrorCode, attempts: Iterable[AttemptSummary] = ()) -> bool:
    """Whether a job that ended so was tried and failed: a provider was asked for it, or it broke a worker.

    A rejection before any call is no failure, nor is a cancellation. One after a call is: the job whose retry was
    refused (`retry_cap`), or whose request a provider refuses, would be called anew at each resubmission.
    """
    ends = MEANINGS[code].ends
    return ends == "failed" or (ends == "rejected" and any(one.status != "void" for one in attempts))


def is_replay(job: Job) -> bool:
    """Whether a human has sent a dead or failed job again: it waits for a token where others are refused."""
    return "replay_of" in job.metadata


def may_wait(job: Job, retry_after_s: float, *, waited_ms: int) -> bool:
    """Whether the job goes back to its lane for a token; not where none ever comes, nor for more than a day."""
    return is_replay(job) and retry_after_s < NEVER_S and waited_ms < MOST_WAITED_MS


def replay_wait_s(retry_after_s: float, *, jitter: float) -> float:
    """For how long a replay goes back to its lane; `jitter` is from 0 to 1."""
    return min(max(retry_after_s, 1.0), MOST_WAIT_S) * (1 + SPREAD * jitter)


def refusal_delay_ms(job: Job, *, waited_ms: int, now: datetime, jitter: float) -> int:
    """For how long a resubmission goes back to its lane before it is refused; 0: it is refused now. `jitter`: 0 to 1.

    An agent that submits again whatever is refused gets one refusal in two seconds, and not as many as a worker can
    give: those would be paid for by everybody else. A job that would expire meanwhile is refused now.
    """
    left_ms = LEAST_ANSWER_MS - waited_ms
    delay_ms = left_ms + int(ANSWER_SPREAD_MS * jitter) if left_ms > 0 else 0
    expires = job.deadline is not None and job.deadline <= now + timedelta(milliseconds=delay_ms)
    return 0 if expires else delay_ms
