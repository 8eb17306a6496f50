"""Worker processes as users start them, by the command that `worker.app.command` gives; and a twin's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.servers import wait_until
from worker.app import command, environment
from worker.settings import WorkerSettings


class CommandProcess:
    """One process with its output in a file."""

    def __init__(self, arguments: list[str], *, env: dict[str, str], output: Path) -> None:
        self._output = output
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                arguments, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        return self._output.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(20)


def start_worker(settings: WorkerSettings, folder: Path) -> CommandProcess:
    """A worker process."""
    output = folder / f"{settings.worker_name}.log"
    return CommandProcess(command(settings), env=environment(settings.to_env()), output=output)


class TwinProcess:
    """A provider twin whose books outlive it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: CommandProcess | None = None
        self.url = ""

    def __enter__(self) -> TwinProcess:
        output = self._folder / "twin.log"
        books = self._folder / "twin-books.jsonl"
        arguments = [sys.executable, "-m", "worker.embedded.twin", "--port", "0", "--books", str(books)]
        self._process = CommandProcess(arguments, env=dict(os.environ), output=output)
        self.url = wait_until(self._said_url, what="the twin")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.kill()

    def _said_url(self) -> str:
        assert self._process
        line, newline, _rest = self._process.log.partition("\n")
        return str(json.loads(line)["url"]) if newline else ""
