"""CallProvider: the call itself, from the last look at the lease to the last byte of the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import httpx

from producer_sdk.contract import Crossing, Straight, Usage
from worker.capabilities import finding, left_out, taken_by
from worker.errors import Billed, FailureKind, ProviderError
from worker.job_run import Answer, Attempt, ProceedAttempt
from worker.providers import failures
from worker.providers.anthropic import Anthropic
from worker.providers.body import pieces
from worker.providers.charge import MODEL_UNKNOWN, TIER_UNKNOWN, Charge, charge
from worker.providers.client import called_at
from worker.providers.embeddings import check_model, embedding_adapter
from worker.providers.errors import broken, not_a_stream, refused
from worker.providers.gemini import Gemini
from worker.providers.keys import Keys
from worker.providers.openai import OpenAI
from worker.providers.rate_headers import exhausted_s
from worker.providers.reply import Adapter, Reader, Reply, Request
from worker.providers.sse import EventStream, StreamTooLarge
from worker.providers.vectors_reader import VectorsReader
from worker.rate_card import RateCard
from worker.routing_file import Dialect, Provider, Tenant

ATTEMPT_HEADER = "x-fairlane-attempt"
EVENT_STREAM = "text/event-stream"
_MOST_ERROR_BYTES = 64 * 1024
_LAST_BYTES_S = 0.5
_ADVICE = {
    MODEL_UNKNOWN: "name what answered in the deployment's answers_as, or give it a deployment with a price",
    TIER_UNKNOWN: "state the tier's price under service_tiers in routing.yaml",
}
logger = logging.getLogger(__name__)


class CallProvider:
    """Send the attempt to its deployment and read the streamed answer; the last step, so it never proceeds."""

    def __init__(
        self,
        *,
        client: httpx.AsyncClient,
        keys: Keys | None = None,
        cards: Mapping[str, RateCard] | None = None,
        local_url: str | None = None,
        crossing: Crossing | None = None,
    ) -> None:
        """`keys` None: calls carry none."""
        self._client = client
        self._keys = keys or None
        self._cards = cards or {}
        self._warned: set[tuple[str, str]] = set()
        self._local_url = local_url
        self._crossing = crossing or Straight()
        self._adapters: dict[Dialect, Adapter] = {
            "openai": OpenAI(),
            "anthropic": Anthropic(),
            "gemini": Gemini(),
        }

    async def run(self, attempt: Attempt, proceed: ProceedAttempt) -> Answer:
        """The answer. Raises ProviderError, LeaseLost before the first byte, and CancelledError once it has hung up."""
        started = time.monotonic()
        provider, tenant = attempt.call.deployment.provider, attempt.job_run.tenant
        makes_vectors = attempt.call.deployment.embedding is not None
        adapter = embedding_adapter(attempt) if makes_vectors else self._adapters[provider.dialect]
        base_url, key = called_at(provider, self._local_url), self._key(provider, tenant)
        request = adapter.request(attempt, base_url=base_url, key=key)
        request.headers.update({"content-type": "application/json", ATTEMPT_HEADER: str(attempt.id)})
        exchange = _Exchange(self._client, self._crossing, provider.name, request, adapter.reader())
        try:
            async with asyncio.timeout(attempt.timeout_s):
                reply = await exchange.run(attempt)
        except TimeoutError as error:
            raise failures.timed_out(provider.name, exchange.reader.usage, sent=attempt.sent) from error
        except ProviderError as error:
            is_auth = error.kind == FailureKind.AUTH
            if is_auth and self._keys and self._keys.has_changed(provider, tenant, key):
                raise failures.key_changed(provider.name, error) from error
            raise
        if reply.vectors:
            check_model(attempt, reply)
        charged = charge(attempt, reply, cards=self._cards, answered_at=datetime.now(UTC))
        if charged.flag:
            self._warn(attempt, charged.flag)
        _tell_what_was_left_out(attempt, base_url)
        answer = _answer(attempt, reply, charged, latency_ms=int((time.monotonic() - started) * 1000))
        first = exchange.first_token
        return answer if first is None else replace(answer, first_token_ms=int((first - started) * 1000))

    def _key(self, provider: Provider, tenant: Tenant | None) -> str | None:
        """Raises ProviderError where the key that the plan counted on has gone since."""
        if self._keys is None:
            return None
        why = self._keys.why_none(provider, tenant)
        if why is not None:
            raise failures.no_key(provider.name, why)
        return self._keys.key_of(provider, tenant)

    def _warn(self, attempt: Attempt, flag: str) -> None:
        """Once for each deployment: its rows in the ledger say it for every call."""
        name = attempt.call.deployment.name
        if (name, flag) in self._warned:
            return
        self._warned.add((name, flag))
        logger.warning("%s was answered by what has no price (%s): %s", name, flag, _ADVICE[flag])


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, client: httpx.AsyncClient, crossing: Crossing, provider: str, request: Request, reader: Reader
    ) -> None:
        self.reader = reader
        self._client = client
        self._crossing = crossing
        self._provider = provider
        self._request = request
        self._events = EventStream()
        self._ended = False
        self.first_token: float | None = None  # on the monotonic clock

    async def run(self, attempt: Attempt) -> Reply:
        response = await self._send(attempt)
        try:
            await self._cross("after_request")
            headers = dict(response.headers.items())  # httpx searches all of them for each that is asked for
            attempt.exhausted_s = exhausted_s(headers, now=datetime.now(UTC))
            if response.status_code != 200:
                raise _with_hint(await self._refusal(response), attempt.exhausted_s)
            if not self._request.is_whole and not _is_stream(response):
                raise not_a_stream(await _some_of(response))
            await self._read(response, attempt)
            await self._cross("after_last")
        except failures.FOREIGN as error:
            usage, billed = self._known()
            raise failures.inside_answer(self._provider, error, billed=billed, usage=usage) from error
        finally:
            with suppress(*failures.FOREIGN):
                await response.aclose()
        return self._reply()

    async def _send(self, attempt: Attempt) -> httpx.Response:
        request = self._client.build_request(
            "POST", self._request.url, content=self._request.body, headers=self._request.headers
        )
        try:
            await self._cross("before_connect")
            attempt.job_run.lease.check()
            attempt.sent = True
            attempt.called_ms = int((time.monotonic() - attempt.made) * 1000)
            attempt.job_run.on_wait()
            return await self._client.send(request, stream=True)
        except failures.FOREIGN as error:
            raise failures.before_answer(self._provider, error, sent=attempt.sent) from error

    async def _read(self, response: httpx.Response, attempt: Attempt) -> None:
        """Read until the closing event, or the end of the stream."""
        first = middle = True
        chunks = pieces(response)
        async for chunk in chunks:
            if first:
                attempt.first_byte_ms = int((time.monotonic() - attempt.made) * 1000) - (
                    attempt.called_ms or 0
                )
                await self._cross("first_chunk")
                first = False
            self._take(chunk)
            if middle and self.reader.begun:
                self.first_token = time.monotonic()
                await attempt.speaks()
                await self._cross("middle")
                middle = False
            if attempt.heard:
                attempt.heard(self.reader.new_text())
            if self.reader.closed:
                await _last_bytes(chunks)
                break
        if isinstance(self.reader, VectorsReader):
            await asyncio.to_thread(self.reader.end)
        self._ended = True
        if not self.reader.finished:
            raise broken(
                f"{self._provider}'s stream ended without a finish reason",
                code="no_finish_reason",
                usage=self.reader.usage,
            )
        if middle:
            await attempt.speaks()

    def _take(self, chunk: bytes) -> None:
        try:
            if self._request.is_whole:
                self.reader.take("", chunk)
                return
            for event in self._events.feed(chunk):
                self.reader.take(event.name, event.data)
        except StreamTooLarge as error:
            code = "answer_too_large" if error.what == "stream" else "line_too_long"
            raise broken(f"{self._provider}: {error}", code=code, usage=self.reader.usage) from error
        except ProviderError as error:
            error.usage = error.usage or self.reader.usage
            raise

    def _reply(self) -> Reply:
        try:
            return self.reader.reply()
        except ValueError as error:
            usage, billed = self._known()
            what = f"{self._provider} sent a tool call that cannot be read"
            raise broken(what, code="bad_tool_call", billed=billed, usage=usage) from error

    def _known(self) -> tuple[Usage | None, Billed]:
        """The usage so far; it is all that will be billed only once the answer is complete."""
        usage, whole = self.reader.usage, self.reader.finished and (self.reader.closed or self._ended)
        return usage, "yes" if whole and usage else "unknown"

    async def _refusal(self, response: httpx.Response) -> ProviderError:
        return refused(
            self._provider,
            status=response.status_code,
            headers=response.headers,
            body=await _some_of(response),
            now=datetime.now(UTC),
        )

    async def _cross(self, point: str) -> None:
        """One of the call's five points, where a crash test may end the process or break the connection."""
        await self._crossing.cross(f"call:{point}", _nothing)


def _tell_what_was_left_out(attempt: Attempt, base_url: str) -> None:
    """One finding for each parameter that this answer was made without, however often it was asked for."""
    job_run, deployment = attempt.job_run, attempt.call.deployment
    for parameter in left_out(job_run.job.params, taken_by(deployment, base_url)):
        found = finding(parameter, deployment)
        if found not in job_run.findings:
            job_run.findings.append(found)


async def _nothing() -> None:
    pass


def _with_hint(error: ProviderError, exhausted: float | None) -> ProviderError:
    """A 429 that does not say for how long, though its headers do."""
    if error.kind == FailureKind.RATE_LIMITED and error.retry_after_s is None:
        error.retry_after_s = exhausted
    return error


def _is_stream(response: httpx.Response) -> bool:
    """Some servers name no type; those that answer something else name what it is."""
    return str(response.headers.get("content-type", EVENT_STREAM)).startswith(EVENT_STREAM)


async def _some_of(response: httpx.Response) -> bytes:
    """The beginning of a body that is no answer."""
    body = b""
    with suppress(ProviderError):  # packed in a way that cannot be read: the status says what it is
        async for chunk in pieces(response):
            body += chunk
            if len(body) > _MOST_ERROR_BYTES:
                break
    return body[:_MOST_ERROR_BYTES]


async def _last_bytes(chunks: AsyncIterator[bytes]) -> None:
    """Let the body end, so that its connection can be used again; the answer is complete whatever happens here."""
    with suppress(TimeoutError, *failures.FOREIGN):
        async with asyncio.timeout(_LAST_BYTES_S):
            async for _chunk in chunks:
                pass


def _answer(attempt: Attempt, reply: Reply, charged: Charge, *, latency_ms: int) -> Answer:
    """The answer with its price."""
    call, usage = attempt.call, reply.usage or Usage()
    return Answer(
        text=reply.text,
        usage=usage,
        model=reply.model or call.deployment.model,
        provider=call.deployment.provider.name,
        deployment=call.deployment.name,
        cost_pico=0 if call.own_key else charged.cost_pico,
        list_pico=charged.cost_pico if call.own_key else None,
        latency_ms=latency_ms,
        tool_calls=reply.tool_calls,
        cache="provider" if usage.cache_read_tokens else "none",
        saved_pico=0 if call.own_key else charged.saved_pico,
        rate_card_id=charged.card_id,
        price_flag=charged.flag,
        exhausted_s=attempt.exhausted_s,
        vectors=reply.vectors,
    )
