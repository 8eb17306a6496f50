"""A process with everything imported, which forks workers and twins: each starts in a fraction of a second.

It reads orders from its input, one line of JSON each, and answers each with one line. When its input ends, it ends
every child that is left, and itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

os.environ["CELERY_CUSTOM_WORKER_POOL"] = "worker.pool:LoopPool"  # before Celery is imported

import billiard.pool
import celery.app.control
import celery.app.log
import celery.apps.worker
import celery.bin.celery
import celery.fixups.django
import celery.worker.autoscale
import celery.worker.components
import celery.worker.consumer.delayed_delivery
import celery.worker.strategy
import kombu.pidbox
import kombu.transport.redis

from tests.chaos.crossings import Boundary, Mode, Striking, Tracing
from tests.chaos.scene import ROUTING
from worker.app import build_app, command
from worker.assembly import assemble
from worker.embedded.twin.__main__ import run
from worker.embedded.twin.server import Twin
from worker.routing_load import load
from worker.settings import WorkerSettings

# What Celery imports on its way, so that a fork need not.
PRELOADED = (
    billiard.pool,
    celery.app.control,
    celery.app.log,
    celery.apps.worker,
    celery.bin.celery,
    celery.fixups.django,
    celery.worker.autoscale,
    celery.worker.components,
    celery.worker.consumer.delayed_delivery,
    celery.worker.strategy,
    kombu.pidbox,
    kombu.transport.redis,
)


class Zygote:
    """Forks, signals and reaps; a child's id is its own until it is reaped here."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._ended: dict[int, int] = {}

    def answer(self, order: dict[str, Any]) -> Any:
        """What an order is answered with: a child's id, or how each child has ended so far."""
        match order["kind"]:
            case "signal":
                self._signal(order["pid"], order["number"])
                return self._reaped()
            case "ended":
                return self._reaped()
            case _:
                pid = os.fork()
                if pid == 0:
                    become(order)
                self._running.add(pid)
                return pid

    def end_all(self) -> None:
        """SIGKILL whatever is left."""
        for pid in list(self._running):
            self._signal(pid, signal.SIGKILL)

    def _signal(self, pid: int, number: int) -> None:
        self._reaped()
        if pid in self._running:
            os.kill(pid, number)

    def _reaped(self) -> dict[int, int]:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            self._running.discard(pid)
            self._ended[pid] = os.waitstatus_to_exitcode(status)
        return self._ended


def main() -> None:
    """Obey until the input ends, which it does when the tests' process ends."""
    zygote = Zygote()
    load(ROUTING)  # what is kept of it, the machine's time zones, is every worker's
    gc.freeze()  # a fork that collects garbage would copy every page it looks at
    try:
        for line in sys.stdin:
            print(json.dumps(zygote.answer(json.loads(line))), flush=True)
    finally:
        zygote.end_all()


def become(order: dict[str, Any]) -> None:
    """Turn this fork into what was ordered; never returns."""
    status = 1
    try:
        os.setsid()
        die_with_the_zygote()
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        random.seed()
        os.environ.update(order["env"])
        (serve_twin if order["kind"] == "twin" else run_worker)(order)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def die_with_the_zygote() -> None:
    """Where the kernel can be asked to (PR_SET_PDEATHSIG), however the zygote ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))


def serve_twin(order: dict[str, Any]) -> None:
    """The provider twin, until SIGTERM."""
    asyncio.run(run(Twin(books=Path(order["books"]))))


def run_worker(order: dict[str, Any]) -> None:
    """A whole worker process: Celery, its pool, and every step, with the ordered crossing."""
    settings = WorkerSettings.from_env()
    trace = Path(order["trace"])
    at = order.get("at")
    crossing = Striking(trace, Boundary(**at), Mode(order["mode"])) if at else Tracing(trace)
    app = build_app(settings, lambda: assemble(settings, crossing=crossing))
    arguments = command(settings, loglevel="INFO")
    program = celery.bin.celery.celery
    program.params[0].default = app  # as Celery.start does, which drops the exit status
    raise SystemExit(program.main(args=arguments[arguments.index("worker") :], standalone_mode=False))


if __name__ == "__main__":
    main()
