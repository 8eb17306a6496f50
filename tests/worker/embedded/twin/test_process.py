"""The twin as a process of its own: its one line, its end, its books after a kill, and 1,500 open connections."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.servers import wait_until
from worker.providers.client import allow_open_files

MANY = 1_500
BODY = {"model": "twin-small", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello?"}]}


@contextmanager
def process(books: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A twin in a process of its own, and its URL."""
    command = [sys.executable, "-m", "worker.embedded.twin", "--port", "0", "--books", str(books)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout
            yield started, json.loads(started.stdout.readline())["url"]
        finally:
            started.kill()


def test_it_prints_its_url_and_ends_on_sigterm(tmp_path: Path):
    with process(tmp_path / "books.jsonl") as (twin, url):
        assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
        twin.send_signal(signal.SIGTERM)
        assert twin.wait(10) == 0


def test_its_books_outlive_a_kill(tmp_path: Path):
    path = tmp_path / "books.jsonl"
    with process(path) as (twin, url):
        headers = {"x-fairlane-attempt": "a1"}
        httpx.post(f"{url}/v1/messages", json=BODY, headers=headers, trust_env=False).raise_for_status()
        twin.kill()
        twin.wait(10)
    with process(path) as (twin, url):
        [call] = httpx.get(f"{url}/twin/books", trust_env=False).json()["calls"]
    assert (call["attempt"], call["finished"]) == ("a1", "complete")
    assert call["cost_pico"] > 0


async def hold(url: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A call whose answer is not read, on a connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/messages HTTP/1.1\r\nhost: twin\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


async def test_it_holds_fifteen_hundred_open_calls_and_notices_when_they_are_gone(tmp_path: Path):
    allow_open_files(2 * MANY)
    path = tmp_path / "books.jsonl"
    with process(path) as (_twin, url):
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0) as client:
            await client.post("/twin/behave", json=[{"hang": True}])
            body = json.dumps(BODY).encode()
            held = await asyncio.gather(*(hold(url, body) for _call in range(MANY)))
            await asyncio.to_thread(
                wait_until, lambda: totals(path)["open"] == MANY, what="every call being open"
            )
            for _reader, writer in held:
                writer.close()
            await asyncio.to_thread(
                wait_until, lambda: totals(path)["open"] == 0, what="every call being closed"
            )
            assert (await client.get("/healthz")).status_code == 200
    assert totals(path)["billed"] == 0


def totals(path: Path) -> dict[str, int]:
    """The sums in the file as it stands."""
    last = {call["number"]: call for call in map(json.loads, filter(None, path.read_text().split("\n")[:-1]))}
    opened = sum(call["finished"] == "open" for call in last.values())
    return {"open": opened, "billed": sum(call["billed"] for call in last.values())}
