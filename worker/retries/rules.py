"""What makes two jobs the same work, and which ends count as failed."""

from __future__ import annotations

import hashlib

from producer_sdk.contract import MEANINGS, ErrorCode, Job

_CONTENT = {"task", "messages", "documents", "params", "prompt_version"}


def content_hash(job: Job) -> str:
    """Equal for jobs that ask the same of the same task, whatever their ids, runs and metadata are."""
    return hashlib.sha256(job.model_dump_json(include=_CONTENT, exclude_defaults=True).encode()).hexdigest()


def is_failure(code: ErrorCode) -> bool:
    """Whether a job that ended so was tried and failed; a rejection or a cancellation is no failure."""
    return MEANINGS[code].ends == "failed"
