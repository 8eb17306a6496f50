"""Reads a stream of chat.completion.chunk events, from OpenAI and from those who speak like it."""

from __future__ import annotations

from typing import Any

from producer_sdk.contract import Usage
from worker.errors import FailureKind, ProviderError
from worker.providers.errors import broken, inside_stream
from worker.providers.fields import inner, objects, read_json, tokens, usage_of
from worker.providers.reply import Collected, Reply

# Reasons that mean: it broke. (DeepSeek; OpenRouter and its like; Mistral.)
_BROKEN_REASONS = ("insufficient_system_resource", "error")


class OpenAIReader:
    """One answer in the OpenAI dialect; see reply.Reader."""

    def __init__(self) -> None:
        self.closed = False
        self.usage: Usage | None = None
        self._collected = Collected()
        self._model = ""
        self._tier: str | None = None
        self._finish: str | None = None
        self._refusal = False

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        return self._collected.size > 0

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come."""
        return self._finish is not None

    def new_text(self) -> str:
        """The text that has come since this was last asked."""
        return self._collected.new_text()

    def take(self, _name: str, data: bytes) -> None:
        """Read one event. Raises ProviderError."""
        if data == b"[DONE]":
            self.closed = True
            return
        chunk = read_json(data)
        error = chunk.get("error")
        if error:
            stated = error if isinstance(error, dict) else {"message": str(error)[:200]}
            raise inside_stream(stated, begun=self.begun, usage=self.usage)
        model = chunk.get("model")
        if isinstance(model, str) and model:
            self._model = model
        tier = chunk.get("service_tier")
        if isinstance(tier, str) and tier:
            self._tier = tier
        for choice in objects(chunk.get("choices")):
            self._choice(choice)
        if "usage" in chunk or "x_groq" in chunk:
            stated = inner(chunk, "usage") or inner(inner(chunk, "x_groq"), "usage")
            if stated:
                self.usage = openai_usage(stated, inner(chunk, "timings"))

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = inner(choice, "delta")
        content = delta.get("content")
        if isinstance(content, str):
            self._collected.add_text(content)
        if not isinstance(content, str) or len(delta) > 1:  # most of a stream is text alone
            self._beside(delta, content)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish

    def _beside(self, delta: dict[str, Any], content: Any) -> None:
        """What a delta says beside its text."""
        for part in objects(content):  # Mistral's thinking models send parts
            self._collected.add_text(part.get("text"))
        for thought in ("reasoning_content", "reasoning", "thinking"):
            self._collected.grow(delta.get(thought))
        if delta.get("refusal"):
            self._refusal = True
            self._collected.grow(delta["refusal"])
        for position, call in enumerate(objects(delta.get("tool_calls"))):
            function, index, call_id = inner(call, "function"), call.get("index"), call.get("id")
            known_by = next(
                (key for key in (index, call_id) if isinstance(key, int | str) and key != ""), position
            )
            self._collected.call(
                known_by,
                call_id=call_id,
                name=function.get("name"),
                arguments=function.get("arguments"),
            )

    def reply(self) -> Reply:
        """The answer. Raises ProviderError when it was blocked or broke."""
        if self._finish == "content_filter" or (self._refusal and not self._collected.text):
            raise ProviderError(
                FailureKind.CONTENT_BLOCKED,
                "the provider withheld the answer",
                billed="yes" if self.usage else "unknown",
                usage=self.usage,
                code="content_filter",
            )
        if self._finish in _BROKEN_REASONS:
            raise broken("the provider gave the answer up", code=str(self._finish), usage=self.usage)
        calls = self._collected.tool_calls()
        return Reply(self._collected.text, calls, self._model, self.usage, service_tier=self._tier)


def openai_usage(stated: dict[str, Any], timings: dict[str, Any]) -> Usage | None:
    """Token counts as OpenAI, DeepSeek, xAI and llama.cpp state them; None when they cannot be."""
    details, output_details = (
        inner(stated, "prompt_tokens_details"),
        inner(stated, "completion_tokens_details"),
    )
    try:
        total, output = tokens(stated, "prompt_tokens"), tokens(stated, "completion_tokens")
        reasoning = tokens(output_details, "reasoning_tokens")
        if reasoning and tokens(stated, "total_tokens") == total + output + reasoning:
            output += reasoning  # xAI leaves the thoughts out of completion_tokens and bills them
        read = tokens(details, "cached_tokens") or tokens(stated, "prompt_cache_hit_tokens")
        read = read or tokens(timings, "cache_n")
        written = tokens(details, "cache_write_tokens")
        if "prompt_tokens" not in stated:
            return None
        return usage_of(total=total, output=output, read=read, written=written, reasoning=reasoning)
    except ValueError:
        return None
