"""The one-command fleet: broker, ledger, upstream, workers and Flower as processes of one home."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from producer_sdk.settings import embedded_url
from worker.embedded.broker import broker_command, prepare, wait_until_answers
from worker.embedded.home import Home
from worker.embedded.local_model.server import server_command, wait_until_loaded
from worker.embedded.ports import LOOPBACK, free_port, wait_until_listens
from worker.embedded.processes import Child, Keeper
from worker.errors import FleetDown
from worker.settings import WorkerSettings


@dataclass(frozen=True)
class Commands:
    """How to start the fleet's own processes and make its tables; the command line hands these in."""

    worker: Callable[[WorkerSettings], list[str]]
    flower: Callable[[int], list[str]]
    environment: Callable[[Mapping[str, str]], dict[str, str]]
    migrate: Callable[[str], None]


@dataclass(frozen=True)
class FleetShape:
    """What to start. `flower_port` None: no Flower, 0: any free port. `hidden` variables reach no child process.

    `local_model`: the file of a model that is served, in the twin's place.
    """

    workers: int = 2
    flower_port: int | None = 0
    with_twin: bool = True
    hidden: Collection[str] = ()
    local_model: Path | None = None


class EmbeddedFleet:
    """A fleet on this machine, from `with EmbeddedFleet(…)` until the block ends.

    Raises FleetDown when the home is in use or a process cannot be started.
    """

    def __init__(self, settings: WorkerSettings, *, commands: Commands, shape: FleetShape) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.shape = shape
        self.flower_url: str | None = None
        self._commands = commands
        self._keeper = Keeper(self.home.note)

    @property
    def own_broker(self) -> bool:
        """Whether the broker is this fleet's own, not one that FAIRLANE_BROKER_URL names."""
        return self.settings.fleet.broker_url == embedded_url(self.home.path)

    @property
    def books(self) -> Path:
        """Where the twin writes what it has served and billed."""
        return self.home.path / "twin-books.jsonl"

    def check(self) -> None:
        """Raise FleetDown if a process could not be kept running."""
        self._keeper.check()

    def __enter__(self) -> EmbeddedFleet:
        self.home.claim()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._keeper.end()
        self.home.release()

    def _start(self) -> None:
        wanted = self.shape.flower_port
        if wanted and free_port(wanted) != wanted:
            raise FleetDown(f"port {wanted} is in use: give --flower-port another one, `auto` or `off`")
        if self.own_broker:
            prepare(self.home.socket, self.home.broker_folder)
            self._run("broker", broker_command(self.home.socket, self.home.broker_folder))
            wait_until_answers(self.home.socket, check=self.check)
        self._commands.migrate(self.settings.ledger_url)
        if self.shape.local_model is not None:
            self._start_local_model(self.shape.local_model)
        elif self.shape.with_twin:
            self._start_twin()
        grace_s = self.settings.shutdown_grace_s + 15
        for number in range(1, self.shape.workers + 1):
            one = replace(self.settings, worker_name=f"w{number}")
            self._run(f"worker-{number}", self._commands.worker(one), settings=one, grace_s=grace_s)
        if self.shape.flower_port is not None:
            self._start_flower(self.shape.flower_port)

    def _start_twin(self) -> None:
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "worker.embedded.twin",
            "--port",
            str(port),
            "--books",
            str(self.books),
        ]
        self._run("twin", command)
        wait_until_listens(port, what="the provider twin", check=self.check)
        self._calls(f"http://{LOOPBACK}:{port}")

    def _start_local_model(self, model: Path) -> None:
        port, threads = (
            free_port(),
            max(1, min(4, (os.cpu_count() or 2) - 1)),
        )  # the rest of the fleet works too
        self._run("local-model", server_command(model, port, threads=threads))
        wait_until_loaded(port, check=self.check)
        self._calls(f"http://{LOOPBACK}:{port}")

    def _calls(self, url: str) -> None:
        """What is started from here on calls this server."""
        self.settings = replace(self.settings, local_url=url)
        self.home.note_upstream(url)

    def _start_flower(self, wanted: int) -> None:
        port = wanted or free_port(5555)
        self._run("flower", self._commands.flower(port))
        wait_until_listens(port, what="Flower", check=self.check)
        self.flower_url = f"http://{LOOPBACK}:{port}"

    def _run(
        self, name: str, command: list[str], *, settings: WorkerSettings | None = None, grace_s: float = 10.0
    ) -> None:
        inherited = (settings or self.settings).to_env(without=self.shape.hidden)
        env = self._commands.environment(inherited)
        self._keeper.add(Child(name, command, env=env, log=self.home.log(name), grace_s=grace_s))
