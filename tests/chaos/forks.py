"""The tests' side of the zygote: processes that it forks, each with a trace of the boundaries it crossed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.chaos.crossings import Boundary, Mode, read_trace, was_struck
from worker.app import environment
from worker.settings import WorkerSettings


@dataclass(frozen=True)
class Strike:
    """Where a worker is struck, and how."""

    at: Boundary
    mode: Mode


class Nursery:
    """Starts workers and twins as forks of one zygote, and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._zygote: subprocess.Popen[str] | None = None
        self._number = 0

    def __enter__(self) -> Nursery:
        with (self._folder / "zygote.log").open("ab") as log:
            self._zygote = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.zygote"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # a signal to the tests' group must not end it before its children
            )
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        assert self._zygote
        self._zygote.communicate(timeout=20)

    def worker(self, settings: WorkerSettings, strike: Strike | None = None) -> ForkedWorker:
        """A worker process of these settings; struck at a boundary, or only traced."""
        self._number += 1
        env = environment(settings.to_env())
        trace = self._folder / f"worker-{self._number}.trace"
        output = self._folder / f"worker-{self._number}.log"
        order = {"kind": "worker", "env": env, "trace": str(trace), "output": str(output)}
        if strike:
            order |= {"at": strike.at.model_dump(), "mode": strike.mode}
        return ForkedWorker(self, self.order(order), trace, output)

    def twin(self, books: Path) -> TwinFork:
        """A provider twin with its own books."""
        self._number += 1
        output = self._folder / f"twin-{self._number}.log"
        order = {"kind": "twin", "env": {}, "books": str(books), "output": str(output)}
        return TwinFork(self, self.order(order), output)

    def order(self, order: Mapping[str, Any]) -> Any:
        """One order and its answer."""
        assert self._zygote
        orders, answers = self._zygote.stdin, self._zygote.stdout
        assert orders
        assert answers
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        answer = answers.readline()
        if not answer:
            raise AssertionError(f"the zygote has ended: {(self._folder / 'zygote.log').read_text()[-2000:]}")
        return json.loads(answer)


class Fork:
    """One process that the zygote forked."""

    def __init__(self, nursery: Nursery, pid: int, output: Path) -> None:
        self._nursery = nursery
        self.pid = pid
        self._output = output

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        code: int | None = self._nursery.order({"kind": "ended"}).get(str(self.pid))
        return code

    @property
    def log(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def send(self, number: signal.Signals) -> None:
        self._nursery.order({"kind": "signal", "pid": self.pid, "number": int(number)})

    def kill(self) -> None:
        self.send(signal.SIGKILL)


class ForkedWorker(Fork):
    """A worker process and its trace."""

    def __init__(self, nursery: Nursery, pid: int, trace: Path, output: Path) -> None:
        super().__init__(nursery, pid, output)
        self._trace = trace

    @property
    def crossed(self) -> list[str]:
        """The boundaries crossed so far, in order."""
        return read_trace(self._trace)

    @property
    def struck(self) -> bool:
        return was_struck(self._trace)


class TwinFork(Fork):
    """A provider twin."""

    @property
    def url(self) -> str:
        """Empty until it listens."""
        first = self.log.partition("\n")
        return str(json.loads(first[0])["url"]) if first[1] else ""
