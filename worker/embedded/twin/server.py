"""The twin as a server: its calls, its control API, its start and its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from aiohttp import web

from worker.embedded.twin.anthropic_wire import AnthropicWire
from worker.embedded.twin.behaviour import BadRule, Behaviours
from worker.embedded.twin.books import Books
from worker.embedded.twin.dialect import Dialect
from worker.embedded.twin.embeddings_wire import GeminiEmbeddingsWire, OpenAIEmbeddingsWire
from worker.embedded.twin.gemini_wire import GeminiWire
from worker.embedded.twin.openai_wire import OpenAIWire
from worker.embedded.twin.prices import TWIN_PRICES
from worker.embedded.twin.prompt_cache import MINIMUM_TOKENS, PromptCache
from worker.embedded.twin.serving import Shelf, serve

BACKLOG = 4096
MOST_REQUEST_BYTES = 32 * 1024 * 1024
SHUTDOWN_S = 0.5
GEMINI_PATH = "/{version:v1|v1beta}/models/{model:[^/:]+}:{method:(?:streamG|g)enerateContent}"
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Twin:
    """A twin on a free port (or the given one) of the loopback interface. `async with`, or start and close."""

    def __init__(
        self, *, port: int = 0, books: Path | None = None, cache_minimum: int = MINIMUM_TOKENS
    ) -> None:
        self.books = Books(books)
        self.behaviours = Behaviours()
        self.cache = PromptCache(minimum=cache_minimum)
        self.url = ""
        self._port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; the URL to give as base_url to any dialect."""
        self._runner = web.AppRunner(
            self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=BACKLOG)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self.url

    async def close(self) -> None:
        """Cut every connection and give the books' file back."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        self.books.shut()

    async def __aenter__(self) -> Twin:
        await self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_REQUEST_BYTES)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._calls(OpenAIWire())),
                web.post("/v1/messages", self._calls(AnthropicWire())),
                web.post(GEMINI_PATH, self._calls(GeminiWire())),
                web.post("/v1/embeddings", self._calls(OpenAIEmbeddingsWire())),
                web.post(
                    "/v1beta/models/{model:[^:/]+}:batchEmbedContents", self._calls(GeminiEmbeddingsWire())
                ),
                web.get("/v1/models", self._models),
                web.get("/healthz", self._health),
                web.post("/twin/behave", self._behave),
                web.post("/twin/clock", self._clock),
                web.get("/twin/books", self._books),
                web.post("/twin/reset", self._reset),
            ]
        )
        return app

    def _calls(self, dialect: Dialect) -> _Handler:
        shelf = Shelf(self.books, self.behaviours, self.cache)

        async def answer(request: web.Request) -> web.StreamResponse:
            return await serve(request, dialect, shelf)

        return answer

    async def _models(self, _request: web.Request) -> web.Response:
        models = [{"id": name, "object": "model", "owned_by": "twin"} for name in TWIN_PRICES]
        return web.json_response({"object": "list", "data": models})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _behave(self, request: web.Request) -> web.Response:
        try:
            self.behaviours.add(await request.json())
        except (BadRule, ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"status": "ok"})

    async def _clock(self, request: web.Request) -> web.Response:
        self.cache.advance(float((await request.json())["advance_s"]))
        return web.json_response({"status": "ok"})

    async def _books(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        calls = self.books.calls(after=int(after) if after.isdigit() else 0)
        cache = {"reads": self.cache.reads, "writes": self.cache.writes}
        body = {"calls": [asdict(call) for call in calls], "totals": self.books.totals(), "cache": cache}
        return web.json_response(body)

    async def _reset(self, _request: web.Request) -> web.Response:
        self.behaviours.reset()
        self.cache.reset()
        self.books.reset()
        return web.json_response({"status": "ok"})
