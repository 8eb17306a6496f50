"""The bridge between Celery's blocking tracer and the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from threading import get_ident

import pytest

from worker.pool import run_in_greenlet, wait_for

STANDING_LOOP = """
import time
from worker.pool import LoopPool
pool = LoopPool(limit=1)
pool.watchdog_s = 0.5
pool.start()
pool.loop.call_soon_threadsafe(time.sleep, 60)
time.sleep(30)
"""


async def test_code_in_a_greenlet_waits_without_stopping_the_loop() -> None:
    loop = asyncio.get_running_loop()
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def tracer() -> str:
        return wait_for(asyncio.sleep(0.02, "answer"), loop)

    turning = loop.create_task(turn())
    assert await run_in_greenlet(tracer) == "answer"
    turning.cancel()
    assert turns > 2


async def test_an_error_of_the_awaitable_is_raised_where_the_greenlet_waits() -> None:
    loop = asyncio.get_running_loop()

    async def fails() -> None:
        raise KeyError("inside")

    def tracer() -> str:
        try:
            wait_for(fails(), loop)
        except KeyError:
            return "caught"
        return "missed"

    assert await run_in_greenlet(tracer) == "caught"


async def test_an_error_of_the_tracer_reaches_its_driver() -> None:
    def tracer() -> None:
        raise ValueError("of the tracer")

    with pytest.raises(ValueError, match="of the tracer"):
        await run_in_greenlet(tracer)


async def test_a_thousand_greenlets_wait_at_once_on_one_thread() -> None:
    loop = asyncio.get_running_loop()
    threads = set()

    def tracer() -> None:
        wait_for(asyncio.sleep(0.05), loop)
        threads.add(get_ident())

    began = time.perf_counter()
    await asyncio.gather(*(run_in_greenlet(tracer) for _ in range(1000)))
    assert threads == {get_ident()}
    assert time.perf_counter() - began < 10


async def test_a_canvas_job_waits_from_its_own_thread() -> None:
    loop = asyncio.get_running_loop()
    answer = await asyncio.to_thread(lambda: wait_for(asyncio.sleep(0, "from the loop"), loop))
    assert answer == "from the loop"


def test_the_watchdog_ends_a_process_whose_loop_stands_still() -> None:
    child = subprocess.run(
        [sys.executable, "-c", STANDING_LOOP],
        env=dict(os.environ),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert b"Current thread" in child.stderr or b"Thread 0x" in child.stderr
