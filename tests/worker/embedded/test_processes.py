"""Children are started in sessions of their own, restarted when they die, and ended by their id."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.servers import wait_until
from worker.embedded.processes import Child, Keeper, end_leftovers
from worker.errors import FleetDown

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
DYING = [sys.executable, "-c", "print('no such table'); raise SystemExit(3)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper(on_start=lambda _children: None)
    yield keeper
    keeper.end()


def child(tmp_path: Path, command: Sequence[str], *, name: str = "worker-1", grace_s: float = 5.0) -> Child:
    return Child(name, command, env=os.environ, log=tmp_path / f"{name}.log", grace_s=grace_s)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_that_is_killed_is_started_again(keeper: Keeper, tmp_path: Path) -> None:
    one = child(tmp_path, SLEEPER)
    keeper.add(one)
    first = one.pid
    assert first
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: one.pid and one.pid != first and one.pid, what="a second life")
    assert second != first
    keeper.check()


def test_a_child_that_dies_at_once_every_time_is_given_up_with_its_last_words(
    keeper: Keeper, tmp_path: Path
) -> None:
    keeper.add(child(tmp_path, DYING))
    wait_until(lambda: keeper.failure, within_s=30, what="giving up")
    with pytest.raises(FleetDown, match=r"worker-1 died 5 times.*no such table"):
        keeper.check()


def test_a_child_that_does_not_answer_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    keeper = Keeper(on_start=lambda _children: None)
    one = child(tmp_path, STUBBORN, grace_s=0.3)
    keeper.add(one)
    wait_until(lambda: b"up" in one.log.read_bytes(), what="the start")
    pid = one.pid
    assert pid
    keeper.end()
    assert not alive(pid)


def test_children_end_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = (
        "import signal, sys, time\n"
        f"def bye(*_): open({str(said)!r}, 'a').write(sys.argv[1] + ' '); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, bye); print('up', flush=True); time.sleep(600)"
    )
    keeper = Keeper(on_start=lambda _children: None)
    for name in ("broker", "worker-1", "flower"):
        one = child(tmp_path, [sys.executable, "-c", script, name], name=name)
        keeper.add(one)
        wait_until(lambda one=one: one.log.is_file() and b"up" in one.log.read_bytes(), what="the start")
    keeper.end()
    assert said.read_text().split() == ["flower", "worker-1", "broker"]


def test_what_a_killed_keeper_left_running_is_ended_and_a_reused_pid_is_not(tmp_path: Path) -> None:
    left, other = child(tmp_path, SLEEPER, name="left"), child(tmp_path, SLEEPER, name="other")
    left.start()
    other.start()
    try:
        assert left.pid
        assert other.pid
        end_leftovers({left.pid: " ".join(SLEEPER), other.pid: "another command"})
        assert not left.alive
        assert other.alive
    finally:
        for one in (left, other):
            one.ask_to_end()
            one.wait_for_end()


def test_a_keeper_that_has_ended_starts_nothing_again(tmp_path: Path) -> None:
    keeper = Keeper(on_start=lambda _children: None)
    one = child(tmp_path, SLEEPER)
    keeper.add(one)
    keeper.end()
    started = time.monotonic()
    assert one.pid is None
    assert time.monotonic() - started < 5
