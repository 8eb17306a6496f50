"""The twin's OpenAI dialect: POST /v1/chat/completions."""

from __future__ import annotations

import json
import time
from typing import Any

from worker.embedded.twin.asked import Asked, Counts, DialectName, Refused, Said, Segment, Turn
from worker.embedded.twin.dialect import (
    fits_context,
    image_tokens,
    message_overhead,
    parts_of,
    required,
    segment,
    sse,
)
from worker.embedded.twin.prices import CONTEXT_TOKENS, TWIN_PRICES

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "requests"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded", 503: "server_is_overloaded"}


class OpenAIWire:
    """Chat completions, streamed and whole."""

    name: DialectName = "openai"

    def read(self, body: dict[str, Any]) -> Asked:
        """The call in neutral terms. Raises Refused as OpenAI would."""
        model = required(body, "model", str)
        messages = required(body, "messages", list)
        if model not in TWIN_PRICES:
            raise Refused(404, "model_not_found", "The model does not exist or you do not have access to it.")
        tools = [_tool(tool) for tool in body.get("tools") or []]
        segments = [segment(json.dumps(tool)) for tool in tools]
        turns = []
        for message in messages:
            turns.append(_turn(message))
            segments.append(_segment(message))
        if not turns:
            raise Refused(400, "invalid_request_error", "messages: must not be empty")
        response_format = body.get("response_format") or {}
        choice = body.get("tool_choice")
        asked = Asked(
            dialect="openai",
            model=model,
            stream=bool(body.get("stream")),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or CONTEXT_TOKENS,
            segments=tuple(segments),
            system="\n".join(turn.text for turn in turns if turn.role in ("system", "developer")),
            turns=tuple(turns),
            tools=tuple(tools),
            tool_choice=choice["function"]["name"] if isinstance(choice, dict) else choice,
            schema=(response_format.get("json_schema") or {}).get("schema"),
            cache_key=body.get("prompt_cache_key"),
        )
        said = f"This model's maximum context length is {CONTEXT_TOKENS} tokens."
        return fits_context(asked, Refused(400, "context_length_exceeded", said))

    def refusal(self, status: int, code: str | None, message: str) -> dict[str, Any]:
        """OpenAI's error body."""
        kind = "insufficient_quota" if code == "insufficient_quota" else _TYPES.get(status)
        kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
        return {
            "error": {"message": message, "type": kind, "param": None, "code": code or _CODES.get(status)},
        }

    def whole(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> dict[str, Any]:
        """A chat.completion object."""
        message: dict[str, Any] = {"role": "assistant", "content": None if said.tool else said.text}
        if said.tool:
            function = {"name": said.tool, "arguments": said.text}
            message["tool_calls"] = [{"id": f"call_{answer_id}", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": said.finish, "logprobs": None}
        head = _head("chat.completion", answer_id, model)
        return head | {"choices": [choice], "usage": _usage(counts)} | _tier(counts)

    def head(self, said: Said, _counts: Counts, *, answer_id: str, model: str) -> bytes:
        """The chunk with the role, and a tool call's name."""
        delta: dict[str, Any] = {"role": "assistant", "content": None if said.tool else ""}
        if said.tool:
            function = {"name": said.tool, "arguments": ""}
            call = {"index": 0, "id": f"call_{answer_id}", "type": "function", "function": function}
            delta["tool_calls"] = [call]
        return _chunk(answer_id, model, delta)

    def chunk(self, said: Said, text: str, *, answer_id: str, model: str) -> bytes:
        """A chunk of text, or of a tool call's arguments."""
        if said.tool:
            return _chunk(answer_id, model, {"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        return _chunk(answer_id, model, {"content": text})

    def tail(self, said: Said, counts: Counts | None, *, answer_id: str, model: str, finish: bool) -> bytes:
        """The finish reason, the usage and [DONE]; without a finish reason the stream just stops."""
        tail = _chunk(answer_id, model, {}, said.finish) if finish else b""
        if counts is not None:
            head = _head("chat.completion.chunk", answer_id, model)
            tail += sse(head | {"choices": [], "usage": _usage(counts)} | _tier(counts))
        return tail + (b"data: [DONE]\n\n" if finish else b"")

    def error_event(self, code: str | None, message: str) -> bytes:
        """A chunk with an error, as OpenAI and its resellers send it inside a 200."""
        return sse(self.refusal(500, code or "server_error", message))


def _head(kind: str, answer_id: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer_id}", "object": kind, "created": int(time.time()), "model": model}


def _chunk(answer_id: str, model: str, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse(_head("chat.completion.chunk", answer_id, model) | {"choices": [choice]})


def _tier(counts: Counts) -> dict[str, Any]:
    return {"service_tier": counts.service_tier} if counts.service_tier else {}


def _usage(counts: Counts) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.input_tokens + counts.output_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
    }
    return usage | counts.wrong


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict) or not function.get("name"):
        raise Refused(400, "invalid_request_error", "tools[0].function: field required")
    schema = function.get("parameters") or {}
    return {"name": function["name"], "description": function.get("description", ""), "schema": schema}


def _turn(message: Any) -> Turn:
    if not isinstance(message, dict) or message.get("role") not in (
        "system",
        "developer",
        "user",
        "assistant",
        "tool",
    ):
        raise Refused(400, "invalid_request_error", "messages[0].role: unknown role")
    if message["role"] == "tool" and not message.get("tool_call_id"):
        raise Refused(400, "invalid_request_error", "messages with role 'tool' need a tool_call_id")
    texts = [part.get("text", "") for part in parts_of(message.get("content") or "")]
    return Turn(message["role"], "\n".join(text for text in texts if text))


def _segment(message: dict[str, Any]) -> Segment:
    parts = list(parts_of(message.get("content") or ""))
    urls = [
        str(part.get("image_url", {}).get("url", "")) for part in parts if part.get("type") == "image_url"
    ]
    text = "\n".join(part.get("text", "") for part in parts)
    calls = message.get("tool_calls")
    functions = [call.get("function") or {} for call in calls or []]
    text += "".join(f" {function.get('name')} {function.get('arguments')}" for function in functions)
    images = sum(image_tokens(url) for url in urls)
    return segment(text, overhead=message_overhead(first=True), image_tokens=images)
