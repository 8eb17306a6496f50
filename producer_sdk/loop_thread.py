"""A private event loop in a background thread, one per process: a forked child starts its own."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from producer_sdk.contract import Crossing
from producer_sdk.errors import FleetError
from producer_sdk.link import Link
from producer_sdk.settings import FleetSettings

T = TypeVar("T")
Work = Callable[[Link], Coroutine[Any, Any, T]]
_CLOSE_S = 10.0


class _Running:
    """The loop, its thread and its link in one process."""

    def __init__(self, settings: FleetSettings, crossing: Crossing | None) -> None:
        self.link = Link(settings, crossing)
        self.loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="fairlane-sdk", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        try:
            await self._ended.wait()
        finally:
            await self.link.close()

    def close(self) -> None:
        """Close the connections and end the thread. Safe to call from any thread, and twice."""
        try:
            self.loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:  # the loop is closed already
            return
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_S)


class LoopThread:
    """Runs coroutines for code that blocks."""

    def __init__(self, settings: FleetSettings, crossing: Crossing | None = None) -> None:
        self._settings = settings
        self._crossing = crossing
        self._by_process: dict[int, _Process] = {}
        self._finalizer = weakref.finalize(self, _close, self._by_process)

    def start(self, work: Work[T]) -> Future[T]:
        """Begin `work`; its result is the future's. Raises FleetError after close()."""
        running = self._running()
        return asyncio.run_coroutine_threadsafe(work(running.link), running.loop)

    def call(self, work: Work[T]) -> T:
        """Run `work` and wait for it; an interrupt (Ctrl-C) cancels it."""
        return finished(self.start(work))

    def link(self) -> Link:
        """The link of this process."""
        return self._running().link

    def close(self) -> None:
        """Close what this process has opened. Also happens when the process ends."""
        self._finalizer()

    def _running(self) -> _Running:
        if not self._finalizer.alive:
            raise FleetError("this fleet is closed: make a new one")
        process = self._by_process.setdefault(os.getpid(), _Process())
        with process.lock:
            if process.running is None:
                process.running = _Running(self._settings, self._crossing)
            return process.running


def finished(future: Future[T]) -> T:
    """What the work came to, once it has ended."""
    try:
        return future.result()
    except CancelledError as error:
        raise FleetError("this fleet was closed while it was waited for") from error
    finally:
        future.cancel()


class _Process:
    """A lock that no parent can have held, and what it guards."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: _Running | None = None


def _close(by_process: dict[int, _Process]) -> None:
    """Close what belongs to this process; a parent's loop is not ours to touch, though we inherit its objects."""
    process = by_process.get(os.getpid())
    if process and process.running:
        process.running.close()
