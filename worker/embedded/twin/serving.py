"""One call of the twin, from its request to its last byte: answered as usual, or wrong as a rule commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from aiohttp import web

from worker.embedded.twin.answers import say
from worker.embedded.twin.asked import Asked, Counts, Refused, Said
from worker.embedded.twin.behaviour import Behaviour, Behaviours
from worker.embedded.twin.books import Books
from worker.embedded.twin.dialect import Dialect
from worker.embedded.twin.embeddings_wire import vectors
from worker.embedded.twin.prompt_cache import PromptCache

ATTEMPT_HEADER = "x-fairlane-attempt"
_ENDLESS_TEXT = "and so on " * 400
_MESSAGES = {429: "Rate limit reached.", 500: "The server had an error.", 529: "Overloaded."}


@dataclass
class Shelf:
    """What every call of a twin shares."""

    books: Books
    behaviours: Behaviours
    cache: PromptCache


async def serve(request: web.Request, dialect: Dialect, shelf: Shelf) -> web.StreamResponse:
    """Answer one call and book it; a client that goes away cancels this, and that is booked too."""
    attempt = request.headers.get(ATTEMPT_HEADER)
    try:
        asked = dialect.read(_object(await request.read()) | _in_path(request))
    except Refused as refused:
        number = shelf.books.open(attempt=attempt, dialect=dialect.name, model="", key=_key(request))
        shelf.books.close(number, "status", status=refused.status)
        body = dialect.refusal(refused.status, refused.code, refused.message)
        return web.json_response(body, status=refused.status)
    text = "\n".join((asked.system, *(turn.text for turn in asked.turns)))
    behaviour = shelf.behaviours.pick(
        model=asked.model, dialect=dialect.name, headers=request.headers, text=text
    )
    said = vectors(asked, behaviour) if asked.dimensions else say(asked, behaviour)
    number = shelf.books.open(attempt=attempt, dialect=dialect.name, model=asked.model, key=_key(request))
    return await _Call(request, dialect, shelf, number, asked, said, behaviour).answer()


class _Call:
    def __init__(
        self,
        request: web.Request,
        dialect: Dialect,
        shelf: Shelf,
        number: int,
        asked: Asked,
        said: Said,
        behaviour: Behaviour,
    ) -> None:
        self.request = request
        self.dialect = dialect
        self.books = shelf.books
        self.cache = shelf.cache
        self.number = number
        self.asked = asked
        self.behaviour = behaviour
        self.answer_id = f"twin{number:08d}"
        self.model = behaviour.answering_model or asked.model
        self.said = said
        self.counts: Counts | None = None  # None: nothing has been generated yet
        self.finished = "client_closed"
        self.status = 0

    async def answer(self) -> web.StreamResponse:
        try:
            return await self._answer()
        except ConnectionResetError:
            raise asyncio.CancelledError from None  # the client went away while we wrote
        finally:
            self.books.close(self.number, self.finished, status=self.status, counts=self.counts)

    async def _answer(self) -> web.StreamResponse:
        behaviour = self.behaviour
        await asyncio.sleep(behaviour.latency_ms / 1000)
        if behaviour.drop:
            self._drop("dropped")
        if behaviour.hang is True:
            await _forever()
        if behaviour.status or behaviour.body is not None:
            return self._as_told()
        self._begin()
        return await (self._stream() if self.asked.stream else self._whole())

    def _begin(self) -> None:
        """Generation starts: the prompt is looked up in the cache and costs money from here on."""
        cached = self.cache.serve(self.asked)
        self.counts = Counts(
            input_tokens=self.asked.input_tokens,
            cache_read_tokens=cached.read,
            cache_write_tokens=cached.written,
            long_write_tokens=cached.long,
            reasoning_tokens=self.behaviour.reasoning_tokens,
            output_tokens=self.behaviour.reasoning_tokens,
            service_tier=self.behaviour.service_tier,
            wrong=dict(self.behaviour.wrong_usage or {}),
        )
        self.books.generating(self.number, self.counts)

    def _generated(self, tokens: int) -> Counts:
        self.counts = replace(self.counts or Counts(), output_tokens=self.behaviour.reasoning_tokens + tokens)
        return self.counts

    def _as_told(self) -> web.Response:
        """The status, headers and body that a rule states."""
        behaviour = self.behaviour
        status = behaviour.status or 200
        self.finished, self.status = "status", status
        if behaviour.bill:
            self._begin()
            self._generated(len(self.said.pieces))
        headers = dict(behaviour.headers or {})
        if behaviour.retry_after is not None:
            headers["retry-after"] = str(behaviour.retry_after)
        if behaviour.retry_after_ms is not None:
            headers["retry-after-ms"] = str(behaviour.retry_after_ms)
        if behaviour.location:
            headers["location"] = behaviour.location
        message = _MESSAGES.get(status, "The request failed.")
        body = behaviour.body
        if body is None:
            body = json.dumps(self.dialect.refusal(status, behaviour.code, message))
        return web.Response(status=status, text=body, headers=headers, content_type=behaviour.content_type)

    async def _whole(self) -> web.Response:
        counts = self._generated(
            len(self.said.pieces)
        )  # not streamed: a client that leaves pays all the same
        await asyncio.sleep(self.behaviour.chunk_ms * len(self.said.pieces) / 1000)
        self.finished, self.status = "complete", 200
        if self.behaviour.garbage:
            return web.Response(text='{"choices": [{"mess', content_type="application/json")
        body = self.dialect.whole(self.said, counts, answer_id=self.answer_id, model=self.model)
        if self.behaviour.no_usage:
            body = {name: value for name, value in body.items() if not name.startswith("usage")}
        return web.json_response(body)

    async def _stream(self) -> web.StreamResponse:
        behaviour, said = self.behaviour, self.said
        self.status = 200
        response = web.StreamResponse(
            headers={
                "content-type": "text/event-stream",
                "cache-control": "no-cache",
                **(behaviour.headers or {}),
            }
        )
        await response.prepare(self.request)
        named = {"answer_id": self.answer_id, "model": self.model}
        await response.write(self.dialect.head(said, self._generated(0), **named))
        if behaviour.endless:
            await self._endless(response)
        await self._pieces(response)
        if behaviour.hang == "mid_stream":
            await _forever()
        counts = self._generated(len(said.pieces))
        shown = counts if self.asked.include_usage and not behaviour.no_usage else None
        finish = not behaviour.no_finish_reason
        self.finished = "complete"
        await response.write(self.dialect.tail(said, shown, finish=finish, **named))
        return response

    async def _pieces(self, response: web.StreamResponse) -> None:
        """Write the answer: token by token where a rule looks at single ones, else all at once."""
        behaviour, said = self.behaviour, self.said
        if not behaviour.by_token:
            self._generated(len(said.pieces))
            await response.write(b"".join(self._chunks(said)))
            return
        for position, chunk in enumerate([*self._chunks(said), b""]):
            if behaviour.break_after_chunks == position:
                self._drop("broken")
            if behaviour.error_after_chunks == position:
                await response.write(self.dialect.error_event(behaviour.code, "The server had an error."))
                self._drop("broken")
            if behaviour.garbage and position == 1:
                await response.write(b'data: {"choices": [{"delta"\n\n')
            if not chunk or (behaviour.hang == "mid_stream" and position * 2 > len(said.pieces)):
                return
            self._generated(position + 1)
            await response.write(chunk)
            if behaviour.chunk_ms:
                await asyncio.sleep(behaviour.chunk_ms / 1000)

    def _chunks(self, said: Said) -> Iterator[bytes]:
        for piece in said.pieces:
            yield self.dialect.chunk(said, piece, answer_id=self.answer_id, model=self.model)

    async def _endless(self, response: web.StreamResponse) -> NoReturn:
        """Write until the client goes away."""
        chunk = self.dialect.chunk(self.said, _ENDLESS_TEXT, answer_id=self.answer_id, model=self.model)
        chunk = _ENDLESS_TEXT.encode() if self.behaviour.endless == "line" else chunk
        written = 0
        while True:
            written += 1
            self._generated(written * len(_ENDLESS_TEXT) // 4)
            await response.write(chunk)
            await asyncio.sleep(0)

    def _drop(self, finished: str) -> NoReturn:
        """Cut the connection."""
        self.finished = finished
        if self.request.transport:
            self.request.transport.close() if self.counts else self.request.transport.abort()
        raise asyncio.CancelledError


def _in_path(request: web.Request) -> dict[str, Any]:
    """What a call's path says of it, where a dialect has it there."""
    path = request.match_info
    if "method" not in path:
        return {}
    return {"model": path["model"], "stream": path["method"].startswith("stream")}


async def _forever() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets this event")


def _key(request: web.Request) -> str:
    """The key that a call came with, in its dialect's header."""
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    return request.headers.get("x-api-key") or request.headers.get("x-goog-api-key") or bearer


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request_error", "the body is not a JSON object")
    return body
