"""One home belongs to one fleet."""

import os
import sys
from pathlib import Path

import pytest

from worker.embedded.home import Home
from worker.embedded.processes import Child
from worker.errors import FleetDown


def test_a_second_fleet_on_the_same_home_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    first, second = Home(tmp_path), Home(tmp_path)
    first.claim()
    try:
        with pytest.raises(FleetDown, match=rf"already up on .* \(process {os.getpid()}\)"):
            second.claim()
    finally:
        first.release()
    second.claim()
    second.release()


def test_a_home_that_cannot_be_made_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FleetDown, match="cannot be written"):
        Home(tmp_path / "file" / "home").claim()


def test_what_a_killed_fleet_left_running_is_ended_by_the_next_one(tmp_path: Path) -> None:
    killed = Home(tmp_path)
    killed.claim()
    left = Child(
        "worker-1",
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env=os.environ,
        log=killed.log("worker-1"),
    )
    left.start()
    try:
        killed.note([left])
        assert killed._lock
        killed._lock.close()  # what the kernel does when the process dies
        home = Home(tmp_path)
        home.claim()
        assert not left.alive
        home.release()
    finally:
        left.ask_to_end()
        left.wait_for_end()


def test_a_long_home_gets_a_short_socket_path(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 30))
    assert len(str(home.socket)) <= 100
    assert home.socket == Home(tmp_path / ("long" * 30)).socket
    assert Home(tmp_path / "short").socket == tmp_path / "short" / "broker.sock"
