"""Jobs in Celery's canvases: `run_job.s(job={…})` in chains, groups and chords, with countdown, retry and links.

    app = celery_app()
    run_job = app.tasks["fairlane.run_job"]
    chain(run_job.s(job={"tenant": "acme", "task": "summarise", "messages": […]}), run_job.s(job={…})).apply_async()

A link without a tenant takes that of the job before it. The result of the link before is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pydantic_core
from celery import Celery, Task
from celery.app.amqp import AMQP

from producer_sdk.contract import ErrorCode, Job
from producer_sdk.contract.envelope import TASK_NAME, BadMessage, check_job
from producer_sdk.errors import FleetError
from producer_sdk.lane_transport import ROUTE, connection_class, refused
from producer_sdk.settings import FleetSettings

QUEUE = "fairlane"


class RunJobElsewhere(Task):  # type: ignore[misc]  # celery has no type information
    """`fairlane.run_job` as a product knows it: by name and signature. A worker registers its own over it."""

    name = TASK_NAME
    acks_late = True
    typing = False

    def run(self, previous: Any = None, *, job: Any = None, raises: bool = False) -> None:
        """A product's process runs no jobs."""
        raise FleetError("this app only submits jobs: a Fairlane worker (`fairlane worker`) runs them")


class LaneAMQP(AMQP):  # type: ignore[misc]  # celery has no type information
    """Celery's message factory, which checks jobs before they are published and shows nothing of their content."""

    def __init__(self, app: Celery, *, settings: FleetSettings) -> None:
        super().__init__(app)
        self.Connection = connection_class(settings)

    def as_task_v2(
        self, task_id: str, name: str, args: Any = None, kwargs: Any = None, *positional: Any, **options: Any
    ) -> Any:
        """Stock for every task but `fairlane.run_job`. Raises JobRejected with a sentence that names the field."""
        if name != TASK_NAME:
            return super().as_task_v2(task_id, name, args, kwargs, *positional, **options)
        parent = self._parent()
        try:
            job = _checked(task_id, kwargs or {}, parent)
            shown = {
                "argsrepr": "()",
                "kwargsrepr": repr({"tenant": job.tenant, "task": job.task, "job_id": task_id}),
            }
            written = {**(kwargs or {}), "job": job.model_dump(mode="json", exclude_defaults=True)}
            message = super().as_task_v2(task_id, name, (), written, *positional, **options | shown)
            for later in _jobs_in(message.body[2]):
                later["job"] = _plain(later["job"])
        except BadMessage as error:
            raise refused(task_id, ErrorCode.INVALID_JOB, str(error)) from error
        _expire(written["job"], message.headers["expires"])
        message.headers[ROUTE] = _route(task_id, message.headers, parent)
        return message

    def _parent(self) -> Any:
        """The request of the job that this process is running now, if any."""
        running = self.app.current_worker_task
        return running.request if running and running.name == TASK_NAME else None


def _checked(task_id: str, kwargs: dict[str, Any], parent: Any) -> Job:
    """The job under Celery's task id, with its parent's tenant where it names none. Raises BadMessage."""
    fields = _plain(kwargs.get("job"))
    if not isinstance(fields, dict):
        raise BadMessage('fairlane.run_job takes job={"tenant": …, "task": …, "messages": […]}')
    if isinstance(fields.get("messages"), str):
        fields["messages"] = [{"role": "user", "content": fields["messages"]}]
    inherited = (parent.kwargs or {}).get("job") if parent else None
    if isinstance(inherited, dict):
        fields.setdefault("tenant", inherited.get("tenant"))
    job = check_job(fields | {"job_id": task_id})
    if str(job.job_id) != task_id:
        raise BadMessage(
            "job.idempotency_key: in a canvas the task id names the job, leave the key out or use Fleet.submit"
            if job.idempotency_key
            else "job.job_id: the task id should be a UUID, as Celery makes them"
        )
    return job


def _plain(job: Any) -> Any:
    """Plain JSON data of a job, so that it reads the same wherever its canvas is decoded. Raises BadMessage."""
    if isinstance(job, Job):
        return job.model_dump(mode="json", exclude_defaults=True)
    try:
        return pydantic_core.to_jsonable_python(job)
    except pydantic_core.PydanticSerializationError as error:
        raise BadMessage("job: it holds an object that JSON cannot: send plain data, or a Job") from error


def _expire(job: dict[str, Any], expires: str | None) -> None:
    """Celery's `expires` is the job's deadline, unless it has an earlier one."""
    if expires and (not job.get("deadline") or _moment(expires) < _moment(job["deadline"])):
        job["deadline"] = _moment(expires).isoformat()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _jobs_in(canvas: Any) -> Iterator[dict[str, Any]]:
    """The kwargs of every later `fairlane.run_job` in a message's chain, chord and callbacks."""
    if isinstance(canvas, dict):
        kwargs = canvas.get("kwargs")
        if canvas.get("task") == TASK_NAME and isinstance(kwargs, dict) and "job" in kwargs:
            yield kwargs
        canvas = list(canvas.values())
    if isinstance(canvas, list | tuple):
        for part in canvas:
            yield from _jobs_in(part)


def _route(task_id: str, headers: dict[str, Any], parent: Any) -> dict[str, Any]:
    """What the transport must know: when the job is due, and whose delivery a retry continues.

    No ETA is left in the message, or it would sit in a worker's memory until its time.
    """
    eta, headers["eta"] = headers["eta"], None
    due_ms = int(_moment(eta).timestamp() * 1000) if eta else 0
    held = (parent.properties or {}) if parent and parent.id == task_id else {}
    return {
        "due_ms": due_ms,
        "tag": held.get("delivery_tag"),
        "batch_id": held.get("batch_id"),
        "story": held.get("story"),
        "inside": parent is not None,
    }


class FleetApp(Celery):  # type: ignore[misc]  # celery has no type information
    """A Celery app in which a real `fairlane.run_job` takes the place of the product's stub without a warning."""

    def register_task(self, task: Any, **options: Any) -> Any:
        """Celery's own, after the stub has made room."""
        if task.name == TASK_NAME and isinstance(self.tasks.get(TASK_NAME), RunJobElsewhere):
            self.tasks.unregister(TASK_NAME)
        return super().register_task(task, **options)

    def close(self) -> None:
        """Celery's own, and the connections that the app has opened (for results: in this thread)."""
        self.amqp.producer_pool.force_close_all()
        self.pool.force_close_all()
        self.amqp.Connection.publisher.close()
        results = self.backend.result_consumer
        results.stop()
        results.subscribed_to.clear()  # or an AsyncResult that is collected later would subscribe anew to end it
        self.backend.client.close()
        super().close()


def celery_app(settings: FleetSettings | None = None, **conf: Any) -> FleetApp:
    """A Celery app for the fleet; `conf` are Celery's own settings. It does not become the current app."""
    fleet = settings or FleetSettings.from_env()
    app = FleetApp("fairlane", broker=fleet.broker_url, backend=fleet.broker_url, set_as_current=False)
    limit_s = fleet.broker_timeout_s
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        result_expires=fleet.result_ttl_s,
        task_acks_late=True,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2},
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=limit_s,
        broker_transport_options={"socket_timeout": limit_s, "socket_connect_timeout": limit_s},
        redis_socket_timeout=limit_s,
        redis_socket_connect_timeout=limit_s,
        control_exchange=f"{fleet.namespace}.control",
        event_exchange=f"{fleet.namespace}.events",
    )
    app.conf.update(conf)
    into_lanes(app, fleet)
    return app


def into_lanes(app: Celery, settings: FleetSettings) -> None:
    """Let an app that stands already publish jobs too: call it before the app's first connection."""
    app.amqp_cls = partial(LaneAMQP, settings=settings)
    app.register_task(RunJobElsewhere())
