"""Reads a stream of Messages events, from Anthropic and from those who speak like it (llama.cpp)."""

from __future__ import annotations

from typing import Any

from producer_sdk.contract import Usage
from worker.errors import Billed, FailureKind, ProviderError
from worker.providers.errors import broken, inside_stream
from worker.providers.fields import inner, read_json, tokens, usage_of
from worker.providers.reply import Collected, Reply


class AnthropicReader:
    """One answer in the Anthropic dialect; see reply.Reader."""

    def __init__(self) -> None:
        self.closed = False
        self._collected = Collected()
        self._model = ""
        self._stop: str | None = None
        self._usage: dict[str, Any] = {}

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        return self._collected.size > 0

    @property
    def finished(self) -> bool:
        """Whether the stop reason and the closing event have come."""
        return self._stop is not None and self.closed

    @property
    def usage(self) -> Usage | None:
        """The token counts reported so far; each event's counts replace those before."""
        return anthropic_usage(self._usage)[0]

    def new_text(self) -> str:
        """The text that has come since this was last asked."""
        return self._collected.new_text()

    def take(self, name: str, data: bytes) -> None:
        """Read one event. Raises ProviderError."""
        event = read_json(data)
        kind = event.get("type") or name
        if kind == "content_block_delta":
            self._delta(event.get("index"), inner(event, "delta"))
        elif kind == "content_block_start":
            self._block(event.get("index"), inner(event, "content_block"))
        elif kind == "message_start":
            self._start(inner(event, "message"))
        elif kind == "message_delta":
            stop = inner(event, "delta").get("stop_reason")
            self._stop = stop if isinstance(stop, str) and stop else self._stop
            self._count(inner(event, "usage"))
        elif kind == "message_stop":
            self.closed = True
        elif kind == "error":
            raise inside_stream(inner(event, "error"), begun=self.begun, usage=self.usage)

    def _start(self, message: dict[str, Any]) -> None:
        model = message.get("model")
        self._model = model if isinstance(model, str) else ""
        self._count(inner(message, "usage"))

    def _count(self, usage: dict[str, Any]) -> None:
        self._usage |= {name: count for name, count in usage.items() if count is not None}

    def _block(self, index: Any, block: dict[str, Any]) -> None:
        self._collected.add_text(block.get("text"))
        if block.get("type") == "tool_use":
            self._collected.call(_key(index), call_id=block.get("id"), name=block.get("name"))

    def _delta(self, index: Any, delta: dict[str, Any]) -> None:
        self._collected.add_text(delta.get("text"))
        self._collected.grow(delta.get("thinking"))
        if delta.get("type") == "input_json_delta":
            self._collected.call(_key(index), arguments=delta.get("partial_json"))

    def reply(self) -> Reply:
        """The answer. Raises ProviderError when it was refused or broke."""
        usage, long_writes = anthropic_usage(self._usage)
        billed: Billed = "yes" if usage else "unknown"
        if self._stop == "refusal":
            raise ProviderError(
                FailureKind.CONTENT_BLOCKED,
                "the provider withheld the answer",
                billed=billed,
                usage=usage,
                code="refusal",
            )
        if self._stop == "model_context_window_exceeded":
            raise ProviderError(
                FailureKind.CONTEXT_TOO_LONG,
                "the answer ran over the model's context window",
                billed=billed,
                usage=usage,
                code=self._stop,
            )
        if self._stop is None:
            raise broken("the stream ended without a stop reason", code="no_finish_reason", usage=usage)
        stated = self._usage.get("service_tier")
        tier = stated if isinstance(stated, str) and stated else None
        calls = self._collected.tool_calls()
        return Reply(self._collected.text, calls, self._model, usage, long_writes, tier)


def anthropic_usage(stated: dict[str, Any]) -> tuple[Usage | None, int]:
    """Token counts, and how many were written for an hour. `input_tokens` leaves out what the cache read or wrote."""
    if "input_tokens" not in stated:
        return None, 0
    try:
        read, written = (
            tokens(stated, "cache_read_input_tokens"),
            tokens(stated, "cache_creation_input_tokens"),
        )
        output = tokens(stated, "output_tokens")
        total = tokens(stated, "input_tokens") + read + written
        long_writes = tokens(inner(stated, "cache_creation"), "ephemeral_1h_input_tokens")
        reasoning = tokens(inner(stated, "output_tokens_details"), "thinking_tokens")
        usage = usage_of(total=total, output=output, read=read, written=written, reasoning=reasoning)
    except ValueError:
        return None, 0
    return usage, min(long_writes, written)


def _key(index: Any) -> int:
    return index if isinstance(index, int) else 0
