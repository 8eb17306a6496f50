"""A provider made of bytes: whatever it is told to answer, cut wherever it is told to cut it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import httpx

from tests.worker.providers.attempts import attempt, no_proceed, settings
from worker.job_run import Answer
from worker.providers.client import open_client
from worker.providers.step import CallProvider
from worker.rate_card import RateCard
from worker.routing_file import Dialect


class Replay(httpx.AsyncBaseTransport):
    """Answers every request with these chunks."""

    def __init__(
        self, chunks: Sequence[bytes], *, content_type: str = "text/event-stream", status: int = 200
    ) -> None:
        self.chunks = chunks
        self.content_type = content_type
        self.status = status
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer."""
        self.requests.append(request)
        headers = {"content-type": self.content_type}
        return httpx.Response(self.status, headers=headers, stream=_Chunks(self.chunks), request=request)


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


async def answered(
    chunks: Sequence[bytes],
    dialect: Dialect,
    *,
    rate_card: RateCard | None = None,
    model: str = "twin-small",
    content_type: str = "text/event-stream",
) -> Answer:
    """What CallProvider makes of these bytes."""
    transport = Replay(chunks, content_type=content_type)
    async with open_client(settings(), transport=transport) as client:
        step = CallProvider(client=client)
        one = attempt("http://provider.test", dialect, model=model, rate_card=rate_card)
        return await step.run(one, no_proceed)
