"""A result as Celery's backend would have stored it, for jobs that never reach Celery's tracer."""

from __future__ import annotations

import json

from producer_sdk.contract import JobResult
from worker.job_run import utc_now


def success_meta(result: JobResult) -> bytes:
    """The value under celery-task-meta-<job_id> for a job that was answered, rejections included."""
    return json.dumps(
        {
            "status": "SUCCESS",
            "result": result.model_dump(mode="json"),
            "traceback": None,
            "children": [],
            "date_done": utc_now().isoformat(),
            "task_id": str(result.job_id),
        }
    ).encode()
