"""npm's @copilotkit/aimock as an upstream: a server that nobody here wrote, answering by fixtures, with faults."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.throwaway import NotHere
from tests.servers import wait_until
from worker.embedded.ports import free_port

VERSION = "1.43.0"
PACKAGE = f"@copilotkit/aimock@{VERSION}"
INTEGRITY = (
    "V8D8cjSMtAR4rHaD2ulp3DR/ZguXQjDNOqwKDNvjb/OJL/KR1I0SDf5xpRCd+TYKjhmf9fM8Xpg3QBKPmV9Kmw=="  # SHA-512
)
LEAST_NODE = (20, 15)
FETCH_S, START_S, ASK_S = 120, 30, 10


class Aimock:
    """A running aimock, over its control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=ASK_S, trust_env=False)

    def journal(self) -> list[dict[str, Any]]:
        """Every call that it got, oldest first: its headers, and the status of its answer."""
        calls = self._client.get("/__aimock/journal", params={"method": "POST"}).raise_for_status().json()
        return [call for call in calls if call["path"].startswith("/v1/")]

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return self._client.get("/v1/models").status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Give its connections back."""
        self._client.close()


@contextmanager
def aimock(folder: Path, fixtures: Sequence[dict[str, Any]]) -> Iterator[Aimock]:
    """A server of its own that answers by these fixtures, fetched into this folder. Raises NotHere."""
    program = _fetched(folder)
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": list(fixtures)}))
    port = free_port()
    command = [_node(), str(program), "--port", str(port), "--fixtures", str(folder / "fixtures.json")]
    with (folder / "aimock.log").open("ab") as log:
        options = ["--host", "127.0.0.1", "--log-level", "warn", "--validate-on-load"]
        child = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=_environ(), cwd=folder)
    server = Aimock(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: child.poll() is not None or server.is_up(), within_s=START_S, what="aimock")
        if child.poll() is not None:
            raise NotHere(f"{PACKAGE} does not start: {(folder / 'aimock.log').read_text()[-300:]}")
        yield server
    finally:
        server.close()
        child.kill()
        child.wait(20)


def _fetched(folder: Path) -> Path:
    """The program, out of the package as npm gives it; it depends on nothing. Raises NotHere."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotHere(f"{PACKAGE} cannot be fetched: there is no npm")
    packed = _said([npm, "pack", "--silent", "--pack-destination", str(folder), PACKAGE], folder).splitlines()
    archive = folder / (packed[-1] if packed else "nothing")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise AssertionError(f"{PACKAGE} has another checksum than the one that is pinned")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder / "package" / "dist" / "cli.js"


def _node() -> str:
    node = shutil.which("node")
    if node is None:
        raise NotHere(f"{PACKAGE} cannot be run: there is no node")
    version = _said([node, "--version"], Path.cwd()).strip()
    if tuple(int(part) for part in version.removeprefix("v").split(".")[:2]) < LEAST_NODE:
        raise NotHere(f"{PACKAGE} needs node 20.15, this is {version}")
    return node


def _said(command: list[str], folder: Path) -> str:
    try:
        ran = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=FETCH_S, env=_environ(), cwd=folder
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotHere(
            f"{PACKAGE} cannot be fetched: {type(error).__name__} of {Path(command[0]).name}"
        ) from error
    return ran.stdout


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AIMOCK_")}
