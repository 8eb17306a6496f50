"""The asyncio pool: Celery's own tracer runs in a greenlet on one event loop; acks, retries, events stay Celery's.

A job that is part of a canvas publishes from inside the tracer, which blocks; such a job's tracer gets a thread.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool
from greenlet import getcurrent, greenlet

T = TypeVar("T")
logger = logging.getLogger(__name__)
TICK_S = 0.2
CANVAS_KEYS = ("callbacks", "errbacks", "chain", "chord")


class Feeder(Protocol):
    """What keeps the pool busy, and knows how to stop without losing a job."""

    async def drain(self) -> None:
        """Finish or give back every job, then let go of everything."""
        ...


class _Tracer(greenlet):  # type: ignore[misc]  # greenlet has no type information
    """A greenlet that may wait for awaitables, which its driver awaits for it."""


async def run_in_greenlet(function: Callable[..., T], *args: Any) -> T:
    """Run blocking-looking code on the loop; inside it, `wait_for` suspends the greenlet, not the loop."""
    tracer = _Tracer(function)
    value = tracer.switch(*args)
    while not tracer.dead:
        try:
            answer = await value
        except BaseException:  # noqa: BLE001 - whatever the awaitable raised belongs to the greenlet
            value = tracer.throw(*sys.exc_info())
        else:
            value = tracer.switch(answer)
    return cast("T", value)


def wait_for(awaitable: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Await from code that is not async: in a tracer's greenlet, or in a tracer's thread."""
    current = getcurrent()
    if isinstance(current, _Tracer):
        return cast("T", current.parent.switch(awaitable))
    return asyncio.run_coroutine_threadsafe(awaitable, loop).result()


class LoopPool(BasePool):  # type: ignore[misc]  # celery has no type information
    """`--pool custom` with CELERY_CUSTOM_WORKER_POOL=worker.pool:LoopPool."""

    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loop = asyncio.new_event_loop()
        self.feeder: Feeder | None = None
        self.watchdog_s = 30.0
        self.running: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(max_workers=self.limit or 1, thread_name_prefix="canvas")
        self._thread = threading.Thread(target=self._serve, name="jobs", daemon=True)
        self._ticked = time.monotonic()
        self._stopped = threading.Event()

    def on_start(self) -> None:
        """Start the loop's thread and its watchdog."""
        self._thread.start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def on_apply(self, target: Callable[..., Any], args: Any, kwargs: Any, **options: Any) -> None:
        """Trace one task; called on the loop's thread by the consumer."""
        task = self.loop.create_task(self._trace(target, args, kwargs or {}, options))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _trace(
        self, target: Callable[..., Any], args: Any, kwargs: dict[str, Any], options: dict[str, Any]
    ) -> None:
        try:
            options["accept_callback"](os.getpid(), time.monotonic())
            await self._traced(target, args, kwargs, options)
        except Exception:
            logger.exception("Celery failed around a job: it is ended as it stands")
            args[2]["properties"]["delivery"].on_ack()

    async def _traced(
        self, target: Callable[..., Any], args: Any, kwargs: dict[str, Any], options: dict[str, Any]
    ) -> None:
        try:
            if _is_canvas(args):
                outcome = await self.loop.run_in_executor(self._threads, lambda: target(*args, **kwargs))
            else:
                outcome = await run_in_greenlet(lambda: target(*args, **kwargs))
        except Exception:  # noqa: BLE001 - Celery's own contract: whatever the tracer lets out is a failure
            options["error_callback"](ExceptionInfo())
        else:
            options["callback"](outcome)

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Jobs are cancelled through their delivery (worker.delivery), not by a signal to this process."""

    def on_stop(self) -> None:
        """Warm shutdown: finish or give back, then stop the loop."""
        if self.feeder and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.feeder.drain(), self.loop).result()
        self.on_terminate()

    def on_terminate(self) -> None:
        """Stop the loop at once; leases run out and the jobs come back."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(10)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "running": len(self.running)}

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._tick)
        self.loop.run_forever()

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        self.loop.call_later(TICK_S, self._tick)

    def _watch(self) -> None:
        """End the process when its loop stands still: code stuck in it cannot be interrupted from inside."""
        while not self._stopped.wait(TICK_S):
            stood_s = time.monotonic() - self._ticked
            if stood_s > self.watchdog_s:
                logger.critical("the loop has stood still for %.1f s: ending this process", stood_s)
                faulthandler.dump_traceback(file=sys.stderr)
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGKILL)


def _is_canvas(args: Any) -> bool:
    """Whether the tracer will publish: callbacks, chain links and chord parts block."""
    request, body = args[2], args[3]
    embed = body[2] or {}
    return bool(request.get("group")) or any(embed.get(key) for key in CANVAS_KEYS)
