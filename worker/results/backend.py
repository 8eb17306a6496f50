"""Celery's Redis result backend for this worker: it keeps the encoded result until the ack writes both at once."""

from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend

PAYLOAD = "fairlane_payload"


class LaneBackend(RedisBackend):  # type: ignore[misc]  # celery has no type information
    """Chords and canvases stay Celery's. A running job's own result waits in its request's properties.

    The worker's ack (worker.delivery) hands it to the lane's `finish` script, which writes the result only while
    the delivery is still this worker's.
    """

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        properties = getattr(request, "properties", None) or {}
        if "delivery" not in properties or request.id != task_id:
            return super()._store_result(task_id, result, state, traceback, request, **kwargs)
        standing = properties["delivery"].result
        asked_for = isinstance(result, dict) and result.get("exc_type") == "JobEndedError"
        if state == "FAILURE" and standing is not None and not asked_for:
            # the job has ended, and only what Celery did after it (a link, a callback) has failed
            state, result = "SUCCESS", standing.model_dump(mode="json")
        # a stack is for this worker's log, not for the producer
        meta = self._get_result_meta(result=result, state=state, traceback=None, request=request)
        meta["task_id"] = task_id
        if state != "SUCCESS" and standing is not None:
            meta["fairlane"] = standing.model_dump(mode="json")
        properties[PAYLOAD] = self.encode(meta)
        return result

    def mark_as_revoked(self, task_id: str, *_celery: Any, **_options: Any) -> None:
        """Store nothing: a revoked job's one result is written by the worker that ends it (worker.consumer).

        Celery's own would write REVOKED at once, from every worker that does not run the job, even over its answer.
        """
