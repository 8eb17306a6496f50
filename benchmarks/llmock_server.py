"""PyPI's llmock as an upstream: a server that nobody here wrote, which breaks calls and judges how a client copes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks import throwaway
from tests.servers import wait_until
from worker.embedded.ports import free_port

VERSION = "0.2.2"
PACKAGE = f"llmock=={VERSION}"
START_S, ASK_S = 60, 30


class Llmock:
    """A running llmock, over its control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=ASK_S, trust_env=False)

    def script(self, *behaviours: dict[str, Any]) -> None:
        """What the next requests meet, in this order; what was left of an earlier script is dropped."""
        self._client.delete("/_llmock/scenario").raise_for_status()
        if behaviours:
            reply = self._client.post("/_llmock/scenario", json={"behaviors": list(behaviours)})
            reply.raise_for_status()

    def verdict(self) -> dict[str, Any]:
        """Its judgement, as data."""
        return dict(self._client.get("/_llmock/verdict").raise_for_status().json())

    def verdict_text(self) -> str:
        """Its judgement, as it prints it."""
        return self._client.get("/_llmock/verdict", params={"format": "text"}).raise_for_status().text

    def requests(self) -> list[dict[str, Any]]:
        """Every request that it served."""
        return list(self._client.get("/_llmock/requests").raise_for_status().json()["requests"])

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return self._client.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Give its connections back."""
        self._client.close()


@contextmanager
def llmock(folder: Path, faults: Sequence[str]) -> Iterator[Llmock]:
    """A server of its own with these options, in an environment of its own. Raises NotHere."""
    programs = throwaway.install(folder, PACKAGE)
    port = free_port()
    command = [str(programs / "llmock"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "llmock.log").open("ab") as log:
        options = ["--log-level", "warning", *faults]
        child = subprocess.Popen([*command, *options], stdout=log, stderr=log, env=_environ(), cwd=folder)
    server = Llmock(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: child.poll() is not None or server.is_up(), within_s=START_S, what="llmock")
        if child.poll() is not None:
            raise throwaway.NotHere(f"{PACKAGE} does not start, see {folder.name}/llmock.log")
        yield server
    finally:
        server.close()
        child.kill()
        child.wait(20)


def _environ() -> dict[str, str]:
    return {name: value for name, value in throwaway.environ().items() if not name.startswith("LLMOCK_")}
