"""Child processes of one fleet: started in sessions of their own, restarted when they die, ended by their id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from worker.errors import FleetDown

LIVED_S = 20.0
MOST_DEATHS = 5
BACKOFF_S = (0.2, 1.0, 3.0, 8.0)
TICK_S = 0.2
LAST_WORDS = 400


class Child:
    """One process of the fleet. Its output goes to `log`; `grace_s` is how long it may take to end."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, grace_s: float = 10.0
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = dict(env)
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self.alive and self._process else None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own, so that a Ctrl-C in the terminal reaches only the fleet's keeper."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603 - the fleet's own commands
                self.command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def ask_to_end(self) -> None:
        """SIGTERM: finish or give back what is in hand, then end."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait_for_end(self) -> None:
        """Wait for the grace after asking, then SIGKILL. It is asked once: a second SIGTERM means "at once"."""
        if self._process is None:
            return
        try:
            self._process.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def last_words(self) -> str:
        """The end of its log, on one line: why it died, most likely."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.is_file() else []
        return " | ".join(line.strip() for line in lines[-3:])[-LAST_WORDS:]


class Keeper:
    """Starts children and keeps them running from a thread of its own, until it is told to end them.

    A child that dies is started again after a growing pause; one that dies five times without ever living for
    twenty seconds is given up, with all the others: see `failure`. `on_start` is told of all children after each start.
    """

    def __init__(self, on_start: Callable[[Sequence[Child]], None]) -> None:
        self._on_start = on_start
        self.children: list[Child] = []
        self.failure: str | None = None
        self.ended = threading.Event()
        self._deaths: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, child: Child) -> None:
        """Start a child and keep it running."""
        with self._lock:
            self.children.append(child)
            self._start(child)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="fleet-keeper", daemon=True)
            self._thread.start()

    def check(self) -> None:
        """Raise FleetDown if a child was given up."""
        if self.failure:
            raise FleetDown(self.failure)

    def end(self) -> None:
        """End every child: the last one started first, those of one kind (`worker-1`, `worker-2`) together."""
        self.ended.set()
        if self._thread:
            self._thread.join(10)
        with self._lock:
            for group in reversed(_kinds(self.children)):
                for child in group:
                    child.ask_to_end()
                for child in group:
                    child.wait_for_end()

    def _start(self, child: Child) -> None:
        child.start()
        self._started[child.name] = time.monotonic()
        self._due.pop(child.name, None)
        self._on_start(self.children)

    def _watch(self) -> None:
        while not self.ended.wait(TICK_S) and not self.failure:
            with self._lock:
                for child in self.children:
                    if not child.alive:
                        self._revive(child)

    def _revive(self, child: Child) -> None:
        now = time.monotonic()
        if child.name not in self._due:
            lived = now - self._started[child.name]
            deaths = self._deaths[child.name] = 1 if lived > LIVED_S else self._deaths.get(child.name, 0) + 1
            if deaths >= MOST_DEATHS:
                why = child.last_words()
                self.failure = f"{child.name} died {deaths} times: see {child.log}, which ends with: {why}"
                return
            self._due[child.name] = now + BACKOFF_S[min(deaths, len(BACKOFF_S)) - 1]
        if now >= self._due[child.name]:
            self._start(child)


def _kinds(children: Sequence[Child]) -> list[list[Child]]:
    groups: dict[str, list[Child]] = {}
    for child in children:
        groups.setdefault(child.name.partition("-")[0], []).append(child)
    return list(groups.values())


def end_leftovers(leftovers: Mapping[int, str]) -> None:
    """End processes of a fleet whose keeper was killed; `leftovers` is pid to command, as they were started.

    A pid that now belongs to another command is left alone.
    """
    ours = [pid for pid, command in leftovers.items() if _command_of(pid) == command]
    for number, within_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + within_s
        while ours and time.monotonic() < end:
            time.sleep(0.05)
            ours = [pid for pid in ours if _command_of(pid) == leftovers[pid]]


def _command_of(pid: int) -> str:
    shown = subprocess.run(  # noqa: S603
        ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)],  # noqa: S607 - POSIX, in the system's path
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    state, _, command = shown.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else command.strip()
