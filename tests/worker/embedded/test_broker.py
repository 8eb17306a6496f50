"""The embedded broker keeps every write, and its folder is private."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from worker.embedded.broker import broker_command, prepare, wait_until_answers
from worker.embedded.processes import Child
from worker.errors import FleetDown


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Child, Path]]:
    folder = tmp_path_factory.mktemp("b")
    socket = folder / "b.sock"
    prepare(socket, folder)
    child = Child("broker", broker_command(socket, folder), env=os.environ, log=folder / "broker.log")
    child.start()
    wait_until_answers(socket, check=lambda: None)
    yield child, socket
    child.ask_to_end()
    child.wait_for_end()


def test_every_write_is_fsynced_and_nothing_is_evicted(broker: tuple[Child, Path]) -> None:
    with redis.Redis(unix_socket_path=str(broker[1]), decode_responses=True) as client:
        config = client.config_get("append*")
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "always")
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_its_socket_is_only_for_this_user(broker: tuple[Child, Path]) -> None:
    assert broker[1].stat().st_mode & 0o077 == 0


def test_a_write_outlives_a_kill(broker: tuple[Child, Path]) -> None:
    child, socket = broker
    with redis.Redis(unix_socket_path=str(socket), decode_responses=True) as client:
        client.set("job", "kept")
        assert child.pid
        os.kill(child.pid, 9)
        child.wait_for_end()
        child.start()
        wait_until_answers(socket, check=lambda: None)
        assert client.get("job") == "kept"


def test_waiting_gives_up_when_the_keeper_has_given_up(tmp_path: Path) -> None:
    def given_up() -> None:
        raise FleetDown("broker died 5 times")

    with pytest.raises(FleetDown, match="died 5 times"):
        wait_until_answers(tmp_path / "none.sock", check=given_up)


def test_a_socket_folder_open_to_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(FleetDown, match="open to all"):
        prepare(tmp_path / "open" / "b.sock", tmp_path / "broker")
