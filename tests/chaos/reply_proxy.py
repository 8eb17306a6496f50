"""Stands between workers and the server, a socket for each worker, and can keep the replies of their takes back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from producer_sdk.lanes.scripts import load_scripts

T = TypeVar("T")
TAKE = b"EVALSHA\r\n$40\r\n" + load_scripts("server")["take"].sha.encode() + b"\r\n"
AFTER_THE_SHA = 6  # number of keys, root, n, worker, lease, operation
CHUNK_BYTES = 65_536


@dataclass(eq=False)
class HeldReply:
    """A take has passed on its way to the server; what its connection is answered since then lies here."""

    worker: str
    operation: str
    answer: bytearray = field(default_factory=bytearray)
    answered_at: float = 0.0  # monotonic; 0: not yet

    def keep(self, data: bytes) -> None:
        """More of the answer."""
        self.answer += data
        self.answered_at = self.answered_at or time.monotonic()


class TakesSeen:
    """Reads a worker's requests, in whatever pieces they come, for the operation id of a take."""

    def __init__(self) -> None:
        self._unread = b""

    def forget(self) -> None:
        """What comes next begins anew."""
        self._unread = b""

    def read(self, data: bytes) -> str | None:
        """The operation of a take whose last byte was in `data`."""
        self._unread += data
        start = self._unread.find(TAKE)
        if start < 0:
            self._unread = self._unread[-len(TAKE) + 1 :]
            return None
        arguments = bulk_strings(self._unread, start + len(TAKE), AFTER_THE_SHA)
        if arguments is None:
            self._unread = self._unread[start:]
            return None
        self._unread = b""
        return arguments[-1].decode()


def bulk_strings(data: bytes, at: int, number: int) -> list[bytes] | None:
    """So many of RESP's `$<length>\\r\\n<bytes>\\r\\n`; None while some are still to come."""
    found = []
    for _ in range(number):
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        start = end + 2
        at = start + int(data[at + 1 : end]) + 2
        if len(data) < at:
            return None
        found.append(data[start : at - 2])
    return found


class Link:
    """One connection of a worker, and the one to the server that belongs to it."""

    def __init__(self, worker: str, proxies: ReplyProxies, to_worker: asyncio.StreamWriter) -> None:
        self.held: HeldReply | None = None
        self._worker = worker
        self._proxies = proxies
        self._to_worker = to_worker
        self._seen = TakesSeen()

    async def run(self, from_worker: asyncio.StreamReader) -> None:
        """Until either side hangs up, which the other then sees too."""
        from_server, to_server = await asyncio.open_unix_connection(self._proxies.server)
        ways = [
            asyncio.create_task(self._requests(from_worker, to_server)),
            asyncio.create_task(self._replies(from_server)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_server.close()

    async def _requests(self, from_worker: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while data := await from_worker.read(CHUNK_BYTES):
            self._watch(data)  # before the server has it: no byte of the reply can have passed
            to_server.write(data)
            await to_server.drain()

    def _watch(self, data: bytes) -> None:
        if not self._proxies.is_holding or self.held:
            self._seen.forget()
            return
        operation = self._seen.read(data)
        if operation:
            self.held = HeldReply(self._worker, operation)

    async def _replies(self, from_server: asyncio.StreamReader) -> None:
        while data := await from_server.read(CHUNK_BYTES):
            if self.held:
                self.held.keep(data)
            else:
                self._to_worker.write(data)
                await self._to_worker.drain()

    def let_go(self, held: HeldReply) -> None:
        """The worker gets what it was answered."""
        if self.held is held:
            self._to_worker.write(bytes(held.answer))
            self.held = None


class ReplyProxies:
    """`with`. They run in a thread of their own, whatever its user's loop is busy with."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.server = server
        self.is_holding = False
        self._folder = folder
        self._listening: dict[str, asyncio.Server] = {}
        self._links: set[Link] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="reply proxies", daemon=True)

    def __enter__(self) -> ReplyProxies:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for worker in list(self._listening):
            self.close(worker)
        self._do(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def open(self, worker: str) -> str:
        """A socket for this worker; its URL in Celery's notation."""
        socket = self._folder / f"{worker}.sock"

        async def listen() -> asyncio.Server:
            return await asyncio.start_unix_server(
                lambda reader, writer: self._connected(worker, reader, writer), socket, backlog=512
            )

        self._listening[worker] = self._do(listen())
        return f"redis+socket://{socket}"

    def close(self, worker: str) -> None:
        """Listen no more; connections that are open go on until their worker ends."""
        server = self._listening.pop(worker)
        self._loop.call_soon_threadsafe(server.close)
        (self._folder / f"{worker}.sock").unlink(missing_ok=True)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Every take from now on is held until it is let go, at the end at the latest."""
        self.is_holding = True
        try:
            yield
        finally:
            self._do(self._end_holding())

    def held(self) -> list[HeldReply]:
        """The takes whose replies are kept back now."""
        return [held for link in list(self._links) if (held := link.held)]

    def let_go(self, held: HeldReply) -> None:
        """Its worker gets the reply after all."""
        for link in list(self._links):
            self._loop.call_soon_threadsafe(link.let_go, held)

    def _connected(self, worker: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(worker, reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, worker: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(worker, self, writer)
        self._links.add(link)
        try:
            with contextlib.suppress(OSError):  # the server is away, or was killed just now
                await link.run(reader)
        finally:
            self._links.discard(link)
            writer.close()

    async def _end_holding(self) -> None:
        self.is_holding = False
        for link in self._links:
            if link.held:
                link.let_go(link.held)

    async def _hang_up(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.sleep(0.01)  # the closed transports' last turn

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
