"""One home, one embedded fleet: its folder, its lock, and the list of the processes it started."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from producer_sdk.settings import broker_socket
from worker.embedded.processes import Child, end_leftovers
from worker.errors import FleetDown


class Home:
    """The folder of an embedded fleet. `claim` makes it this process's until `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None

    @property
    def socket(self) -> Path:
        """The broker's socket."""
        return broker_socket(self.path)

    @property
    def broker_folder(self) -> Path:
        """Where the broker keeps its AOF."""
        return self.path / "broker"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.path / "logs" / f"{name}.log"

    def claim(self) -> None:
        """Lock the home, and end what a killed fleet left running on it.

        Raises FleetDown when a fleet is up on this home, or the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "logs").mkdir(exist_ok=True)
            lock = (self.path / "up.lock").open("a+")
        except OSError as error:
            raise FleetDown(f"{self.path} cannot be written ({error.strerror}): set FAIRLANE_HOME") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise FleetDown(
                f"a fleet is already up on {self.path} (process {owner}): use it, end it, or give --home another folder"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
        end_leftovers(self._started())

    def note(self, children: Iterable[Child]) -> None:
        """Write down what runs, so that the next fleet on this home can end it if this one is killed."""
        running = {str(child.pid): " ".join(child.command) for child in children if child.pid}
        written = self.path / "processes.json.new"
        written.write_text(json.dumps(running))
        written.replace(self.path / "processes.json")

    def note_upstream(self, url: str) -> None:
        """Write down where the fleet's own provider twin or model is, for whoever asks about this home."""
        (self.path / "upstream").write_text(url)

    def upstream(self) -> str | None:
        """The provider twin or the model of the fleet that is up on this home, if there is one."""
        noted = self.path / "upstream"
        return noted.read_text().strip() or None if noted.is_file() else None

    def release(self) -> None:
        """Give the home back, after every child has ended."""
        if self._lock is None:
            return
        for name in ("processes.json", "upstream"):
            (self.path / name).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def _started(self) -> dict[int, str]:
        noted = self.path / "processes.json"
        try:
            return {int(pid): str(command) for pid, command in json.loads(noted.read_text()).items()}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}
