"""A server of bytes: it reads a request and writes whatever the test tells it to, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType

Answer = Callable[["Connection"], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class Connection:
    """One client's connection, as an answer writes to it."""

    def __init__(self, server: RawServer, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._server = server

    async def send(self, data: bytes) -> None:
        """Write, and wait until the client takes it; raises ConnectionError when it has left."""
        self._server.sent += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def for_ever(self, data: bytes, *, pause_s: float = 0.0) -> None:
        """Send it again and again until the client leaves."""
        while True:
            await self.send(data)
            await asyncio.sleep(pause_s)


class RawServer:
    """Listens on a free port of the loopback; `answer` is called after each request.

    `reads` False: it accepts and never reads. `opened` and `open` count connections, `sent` the bytes it wrote.
    """

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None, reads: bool = True) -> None:
        self.requests: list[bytes] = []
        self.opened = self.open = self.sent = 0
        self._answer = answer
        self._tls = tls
        self._reads = reads
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def all_closed(self, *, within_s: float = 5.0) -> None:
        """Wait until no client is connected."""
        async with asyncio.timeout(within_s):
            while self.open:
                await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.opened += 1
        self.open += 1
        connection = Connection(self, writer)
        try:
            while request := await self._request(reader):
                self.requests.append(request)
                await self._answer(connection)
                if not self._reads or writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        if not self._reads:
            return b"not read"
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        return head + await reader.readexactly(length)

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._server.wait_closed()
