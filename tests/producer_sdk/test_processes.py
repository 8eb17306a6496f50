"""Fleet in whole processes: forks, exits without close, and what importing it pulls in. Warnings are errors."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from producer_sdk import FleetSettings
from tests.producer_sdk.fake_worker import FakeWorker

FORKS = """
    import os, sys
    from producer_sdk import Fleet, FleetSettings
    fleet = Fleet(FleetSettings(*sys.argv[1:]))
    ask = {"task": "t", "tenant": "acme"}
    def submit(text):
        return fleet.submit(**ask, messages=text)
    before = submit("before")
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            own = submit(f"child {number}")
            assert before.result(20).text == "echo: before"
            assert own.result(20).text == f"echo: child {number}"
            sys.exit(0)
        children.append(pid)
    assert submit("parent").result(20).text == "echo: parent"
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    print("done")
"""

FORKS_WHILE_WAITING = """
    import multiprocessing, sys
    from producer_sdk import Fleet, FleetSettings
    fleet = Fleet(FleetSettings(*sys.argv[1:]))
    def work(number):
        return fleet.run(task="t", tenant="acme", messages=str(number), timeout=20).text
    if __name__ == "__main__":
        assert work(0) == "echo: 0"
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map(work, range(30)) == [f"echo: {n}" for n in range(30)]
            pool.close()
            pool.join()
        assert work(1) == "echo: 1"
        print("done")
"""

EXITS_OPEN = """
    import sys
    from producer_sdk import Fleet, FleetSettings
    fleet = Fleet(FleetSettings(*sys.argv[1:]))
    job = fleet.submit(task="t", tenant="acme", messages="hi")
    assert job.result(20).text == "echo: hi"
    waiting = fleet.as_completed([fleet.submit(task="t", tenant="acme", messages="hi", not_before="2099-01-01T00:00Z")])
    print("done")
"""

FORGETS_IT = """
    import gc, sys, threading
    from producer_sdk import Fleet, FleetSettings
    def once():
        return Fleet(FleetSettings(*sys.argv[1:])).run(task="t", tenant="acme", messages="hi", timeout=20)
    for _ in range(5):
        once()
    gc.collect()
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"], threading.enumerate()
    print("done")
"""

ASYNC_EXITS_OPEN = """
    import asyncio, sys
    from producer_sdk import AsyncFleet, FleetSettings
    async def main():
        async with AsyncFleet(FleetSettings(*sys.argv[1:])) as fleet:
            assert (await fleet.run(task="t", tenant="acme", messages="hi", timeout=20)).text == "echo: hi"
    asyncio.run(main())
    print("done")
"""

IS_LIGHT = """
    import sys
    import producer_sdk
    loaded = {name.partition(".")[0] for name in sys.modules}
    heavy = loaded & {"celery", "kombu", "worker", "sqlalchemy", "httpx", "aiohttp"}
    assert not heavy, heavy
    print("done")
"""


@pytest.mark.parametrize(
    "program", [FORKS, FORKS_WHILE_WAITING, EXITS_OPEN, FORGETS_IT, ASYNC_EXITS_OPEN, IS_LIGHT],
    ids=["forks", "forks in a pool", "exits open", "forgets it", "async", "is light"],
)  # fmt: skip
def test_a_program_ends_well_and_says_nothing_it_was_not_asked(
    program: str, fleet_settings: FleetSettings, worker: FakeWorker
) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)]
    ran = subprocess.run(
        [*command, fleet_settings.broker_url, fleet_settings.namespace],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # asyncio's own note that a step took over 0.1 s says something of the machine, not of the program
    said = [line for line in ran.stderr.splitlines() if not line.startswith("Executing <")]
    assert (ran.returncode, ran.stdout, said) == (0, "done\n", [])
