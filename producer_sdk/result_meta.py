"""Reads a result as Celery's Redis result backend stores it: both of its shapes, and what Celery itself writes."""

from __future__ import annotations

import uuid
from typing import Any

import pydantic_core
from pydantic import ValidationError

from producer_sdk.contract import ErrorCode, JobError, JobResult
from producer_sdk.errors import ResultUnreadable

PREFIX = "celery-task-meta-"
_UNREADABLE = "the stored result has a shape that this SDK does not know: upgrade fairlane-sdk"


def result_key(job_id: str) -> str:
    """The key, and the channel, of a job's result."""
    return PREFIX + job_id


def read_meta(payload: bytes) -> JobResult | None:
    """The job's result, or None where Celery says that it is still under way. Raises ResultUnreadable.

    An answered job is SUCCESS with the result; with `raises=True` a rejected or failed one is FAILURE, its result
    beside Celery's exception under "fairlane". FAILURE without it means that Celery itself gave the job up. Fields
    that a newer worker has added are left out.
    """
    try:
        meta = pydantic_core.from_json(payload)
        status, task_id = meta["status"], uuid.UUID(meta["task_id"])
        if status == "SUCCESS":
            return JobResult.model_validate(meta["result"], extra="ignore")
        if meta.get("fairlane") is not None:
            return JobResult.model_validate(meta["fairlane"], extra="ignore")
    except (ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        raise ResultUnreadable(_UNREADABLE) from error
    if status == "FAILURE":
        return JobResult.ended(task_id, JobError.of(ErrorCode.INTERNAL, _given_up(meta.get("result"))))
    if status == "REVOKED":
        return JobResult.ended(task_id, JobError.of(ErrorCode.CANCELLED, "the job was revoked before it ran"))
    return None


def _given_up(exception: Any) -> str:
    kind = exception.get("exc_type") if isinstance(exception, dict) else None
    name = kind if isinstance(kind, str) and kind.isidentifier() else "an error"
    return f"Celery gave the job up with {name}: see the worker's log, then submit it anew"
