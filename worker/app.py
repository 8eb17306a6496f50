"""The Celery app and its one task, `fairlane.run_job`.

Start a worker with `fairlane worker`, or with the command that `command()` gives.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery, Task
from celery._state import pop_current_task, push_current_task
from celery.bin.base import CLIContext
from celery.bin.worker import worker as worker_command
from celery.exceptions import Ignore, Reject
from celery.signals import setup_logging

from producer_sdk.canvas import celery_app
from producer_sdk.contract import JobResult
from producer_sdk.contract.envelope import TASK_NAME
from worker.assembly import assemble
from worker.consumer import Assemble, lane_consumer
from worker.delivery import HeldDelivery, Limits
from worker.errors import HandBack, LeaseLost, RetryLater
from worker.pool import wait_for
from worker.results.backend import LaneBackend
from worker.settings import WorkerSettings
from worker.telemetry.logs import configure_logs


class JobEndedError(Exception):
    """With `raises=True`: the job has ended without an answer. Its text is the error's code and sentence."""


class Outcome:
    """A JobResult on its way through Celery's tracer: shown without content, stored whole."""

    def __init__(self, result: JobResult) -> None:
        self.result = result

    def __repr__(self) -> str:
        code = f", {self.result.error.code}" if self.result.error else ""
        return f"<{self.result.status}{code}, {self.result.cost_usd} USD>"

    def __json__(self) -> dict[str, Any]:
        """What kombu's JSON encoder writes: the result as JSON."""
        return self.result.model_dump(mode="json")


class RunJob(Task):  # type: ignore[misc]  # celery has no type information
    """Runs one LLM job of one tenant and returns its JobResult."""

    name = TASK_NAME
    Request = "worker.consumer:JobRequest"
    acks_late = True
    acks_on_failure_or_timeout = True
    reject_on_worker_lost = True
    max_retries = None  # fallback's rules bound the retries; Celery's own error would quote the job
    typing = False

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings

    def run(self, previous: Any = None, *, job: Any = None, raises: bool = False) -> Outcome:
        """`previous` is the result of the link before in a chain; it is not read."""
        delivery: HeldDelivery = self.request.properties["delivery"]
        loop = delivery.loop
        hard_s, soft_s = self.request.timelimit or (None, None)
        limits = Limits(soft_s or self.settings.soft_limit_s, hard_s or self.settings.hard_limit_s)
        try:
            result = wait_for(delivery.run(job=job, retries=self.request.retries, limits=limits), loop)
        except LeaseLost as lost:
            delivery.released = True
            raise Ignore("the job is another worker's now") from lost
        except HandBack as back:
            wait_for(delivery.hand_back(back.delay_ms, why=str(back)), loop)
            raise Ignore("the job was given back to its lane") from back
        except RetryLater as later:
            delivery.will_retry(later)
            try:
                retry = self._retry_in(later.delay_ms / 1000, loop)
            except Reject:  # the broker took no message: the job itself waits for it
                wait_for(delivery.hand_back(later.delay_ms, why=str(later)), loop)
                raise Ignore("the job was given back to its lane") from later
            raise retry from later
        if raises and result.error:
            raise JobEndedError(f"{result.error.code}: {result.error.message}")
        return Outcome(result)

    def _retry_in(self, countdown: float, loop: asyncio.AbstractEventLoop) -> Exception:
        """Publish Celery's retry from a thread, since it blocks; the lane moves the job in one script."""
        request = self.request_stack.top

        def publish() -> Exception:
            push_current_task(self)
            self.request_stack.push(request)
            try:
                return self.retry(countdown=countdown, throw=False)  # type: ignore[no-any-return]
            finally:
                self.request_stack.pop()
                pop_current_task()

        return wait_for(asyncio.to_thread(publish), loop)


def build_app(settings: WorkerSettings, assembly: Assemble | None = None) -> Celery:
    """The worker's app. `assembly` builds its parts; tests hand in one with other crossings."""
    app = celery_app(settings.fleet)
    app.conf.update(
        # what stands before the first plus is the class; Celery's Redis backend calls a unix socket socket://
        result_backend=f"{LaneBackend.__module__}:{LaneBackend.__name__}+"
        + settings.fleet.broker_url.replace("redis+socket://", "socket://"),
        worker_send_task_events=True,
        worker_pool="custom",
        worker_concurrency=settings.slots,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        worker_enable_soft_shutdown_on_idle=False,
    )
    app.register_task(RunJob(settings))
    app.amqp.queues.deselect(app.conf.task_default_queue)
    app.steps["consumer"].add(lane_consumer(assembly or (lambda: assemble(settings))))
    return app


def run(app: Celery, arguments: Sequence[str]) -> None:
    """Be the worker that `celery -A … worker` with these arguments would be.

    `celery` itself loads all of its commands and plug-ins, Flower too: 10 MB in every worker.
    """
    _name, *options = arguments
    context = CLIContext(app=app, no_color=False, workdir=None, quiet=False)
    worker_command.main(args=options, prog_name="worker", obj=context)


def command(settings: WorkerSettings, *, loglevel: str = "INFO") -> list[str]:
    """The command line of one worker process."""
    worker = [sys.executable, "-m", "worker.main", "worker", "--pool", "custom"]
    name = f"{settings.worker_name}@%h"
    return [
        *worker,
        "-n",
        name,
        "-c",
        str(settings.slots),
        "-l",
        loglevel,
        "--without-gossip",
        "--without-mingle",
    ]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker process: the pool must be named before Celery is imported."""
    return {**environ, "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool"}


@setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]  # celery has no type information
def _logs(loglevel: int | str = "INFO", **_celery: Any) -> None:
    configure_logs(loglevel)
