"""The twin's Anthropic dialect: POST /v1/messages."""

from __future__ import annotations

import json
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

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_MOST_BREAKPOINTS = 4


class AnthropicWire:
    """Messages, streamed and whole."""

    name: DialectName = "anthropic"

    def read(self, body: dict[str, Any]) -> Asked:
        """The call in neutral terms. Raises Refused as Anthropic would."""
        model = required(body, "model", str)
        max_tokens = required(body, "max_tokens", int)
        messages = required(body, "messages", list)
        if model not in TWIN_PRICES:
            raise Refused(404, "not_found_error", f"model: {model}")
        if (body.get("temperature") or 0) > 1:
            raise Refused(400, "invalid_request_error", "temperature: range: 0..1")
        tools = body.get("tools") or []
        segments = [_block(json.dumps({"name": required(tool, "name", str)} | tool), tool) for tool in tools]
        system = list(parts_of(body.get("system") or []))
        segments += [_block(part.get("text", ""), part, first=True) for part in system]
        turns = _turns(messages, segments)
        _check_breakpoints(segments)
        choice = body.get("tool_choice") or {}
        schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
        asked = Asked(
            dialect="anthropic",
            model=model,
            stream=bool(body.get("stream")),
            include_usage=True,
            max_tokens=max_tokens,
            segments=tuple(segments),
            system="\n".join(part.get("text", "") for part in system),
            turns=tuple(turns),
            tools=tuple(_tool(tool) for tool in tools),
            tool_choice=choice.get("name") or choice.get("type"),
            schema=schema,
        )
        said = f"prompt is too long: {asked.input_tokens} tokens > {CONTEXT_TOKENS} maximum"
        return fits_context(asked, Refused(400, "invalid_request_error", said))

    def refusal(self, status: int, code: str | None, message: str) -> dict[str, Any]:
        """Anthropic's error body; a code that is no error type becomes details.error_code."""
        kind = code if code in _TYPES.values() else _TYPES.get(status, "api_error")
        error: dict[str, Any] = {"type": kind, "message": message}
        if code and code != kind:
            error["details"] = {"error_code": code}
        return {"type": "error", "error": error, "request_id": "req_twin"}

    def whole(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> dict[str, Any]:
        """A message object."""
        block: dict[str, Any] = {"type": "text", "text": said.text}
        if said.tool:
            arguments = json.loads(said.text) if said.finish == "tool_calls" else {}
            block = {"type": "tool_use", "id": f"toolu_{answer_id}", "name": said.tool, "input": arguments}
        message = _message(answer_id, model, _usage(counts))
        return message | {"content": [block], "stop_reason": _STOPS[said.finish]}

    def head(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> bytes:
        """message_start, with the input's tokens, and the start of the one block."""
        usage = {**_usage(counts), "output_tokens": 1} | counts.wrong
        block: dict[str, Any] = {"type": "text", "text": ""}
        if said.tool:
            block = {"type": "tool_use", "id": f"toolu_{answer_id}", "name": said.tool, "input": {}}
        start = {"type": "message_start", "message": _message(answer_id, model, usage)}
        begin = {"type": "content_block_start", "index": 0, "content_block": block}
        ping = sse({"type": "ping"}, "ping")
        return sse(start, "message_start") + sse(begin, "content_block_start") + ping

    def chunk(self, said: Said, text: str, *, answer_id: str, model: str) -> bytes:
        """A delta of text, or of a tool call's arguments."""
        delta = (
            {"type": "input_json_delta", "partial_json": text}
            if said.tool
            else {"type": "text_delta", "text": text}
        )
        return sse({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")

    def tail(self, said: Said, counts: Counts | None, *, answer_id: str, model: str, finish: bool) -> bytes:
        """message_delta with the stop reason and the usage, and message_stop."""
        if not finish:
            return b""
        delta: dict[str, Any] = {"type": "message_delta"}
        delta["delta"] = {"stop_reason": _STOPS[said.finish], "stop_sequence": None}
        if counts is not None:
            delta["usage"] = _usage(counts)
        tail = sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
        return tail + sse(delta, "message_delta") + sse({"type": "message_stop"}, "message_stop")

    def error_event(self, code: str | None, message: str) -> bytes:
        """An error event inside a stream that began well."""
        return sse(self.refusal(529 if code is None else 500, code, message), "error")


def _message(answer_id: str, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"msg_{answer_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(counts: Counts) -> dict[str, Any]:
    short = counts.cache_write_tokens - counts.long_write_tokens
    usage: dict[str, Any] = {
        "input_tokens": counts.input_tokens - counts.cache_read_tokens - counts.cache_write_tokens,
        "output_tokens": counts.output_tokens,
        "cache_read_input_tokens": counts.cache_read_tokens,
        "cache_creation_input_tokens": counts.cache_write_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": counts.long_write_tokens,
        },
        "service_tier": counts.service_tier or "standard",
    }
    return usage | counts.wrong


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    schema = tool.get("input_schema") or {}
    return {"name": tool["name"], "description": tool.get("description", ""), "schema": schema}


def _block(text: str, part: dict[str, Any], *, first: bool = False) -> Segment:
    marker = part.get("cache_control")
    if marker is not None and (not isinstance(marker, dict) or marker.get("type") != "ephemeral"):
        raise Refused(400, "invalid_request_error", "cache_control.type: must be ephemeral")
    ttl = marker.get("ttl", "5m") if marker else None
    if ttl not in (None, "5m", "1h"):
        raise Refused(400, "invalid_request_error", "cache_control.ttl: must be 5m or 1h")
    url = json.dumps(part["source"]) if part.get("type") == "image" else ""
    return segment(text, ttl=ttl, overhead=message_overhead(first=first), image_tokens=image_tokens(url))


def _turns(messages: list[Any], segments: list[Segment]) -> list[Turn]:
    """The messages as turns; their blocks are added to the segments. Tool results must answer tool uses."""
    turns: list[Turn] = []
    open_uses: set[str] = set()
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise Refused(400, "invalid_request_error", "messages: role must be user or assistant")
        parts = list(parts_of(message.get("content")))
        results = {part.get("tool_use_id") for part in parts if part.get("type") == "tool_result"}
        if results != open_uses:
            raise Refused(400, "invalid_request_error", "messages: each tool_use needs its tool_result next")
        open_uses = {str(part.get("id")) for part in parts if part.get("type") == "tool_use"}
        for number, part in enumerate(parts):
            segments.append(_block(_text(part), part, first=number == 0))
        text = "\n".join(_text(part) for part in parts if part.get("type") != "tool_use")
        role = "tool" if results and len(results) == len(parts) else message["role"]
        turns.append(Turn(role, text))
    if not turns or messages[0]["role"] != "user":
        raise Refused(400, "invalid_request_error", "messages: first message must use the user role")
    return turns


def _text(part: dict[str, Any]) -> str:
    if part.get("type") == "tool_use":
        return json.dumps({"name": part.get("name"), "input": part.get("input")})
    if part.get("type") == "tool_result":
        return "\n".join(str(inner.get("text", "")) for inner in parts_of(part.get("content") or ""))
    text = str(part.get("text", ""))
    if part.get("type") == "text" and not text:
        raise Refused(400, "invalid_request_error", "messages: text content blocks must be non-empty")
    return text


def _check_breakpoints(segments: list[Segment]) -> None:
    ttls = [one.ttl for one in segments if one.ttl]
    if len(ttls) > _MOST_BREAKPOINTS:
        raise Refused(
            400, "invalid_request_error", "A maximum of 4 blocks with cache_control may be provided."
        )
    if ttls != sorted(ttls):  # "1h" < "5m": the long-lived ones come first
        raise Refused(400, "invalid_request_error", "a ttl='1h' block must not come after a ttl='5m' block")
