"""The Anthropic dialect: Messages, always streamed (platform.claude.com/docs/en/api/messages)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydantic_core
from pydantic import JsonValue

from producer_sdk.contract import GenerationParams, ImagePart, Message, TextPart, Tool
from worker.capabilities import inline_image, taken_by
from worker.job_run import Attempt
from worker.providers.anthropic_reader import AnthropicReader
from worker.providers.prefix import static_prefix, system_as_user
from worker.providers.reply import Request, joined
from worker.providers.schema_forms import in_words, is_native_to_claude

VERSION = "2023-06-01"
_MOST_BREAKPOINTS = 4
_TOOL_CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


class Anthropic:
    """The adapter for the Anthropic dialect."""

    def request(self, attempt: Attempt, *, base_url: str, key: str | None) -> Request:
        """The call to send."""
        headers = {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})
        body = pydantic_core.to_json(_body(attempt, taken_by(attempt.call.deployment, base_url)))
        return Request(joined(base_url, "/v1/messages"), headers, body)

    def reader(self) -> AnthropicReader:
        """What reads one answer's events."""
        return AnthropicReader()


def _body(attempt: Attempt, taken: frozenset[str]) -> dict[str, Any]:
    job_run = attempt.job_run
    params = job_run.job.params
    model = attempt.call.deployment.model
    markers = _markers(attempt.messages, long_lived=attempt.call.card.has_long_writes)
    system, turns = _split(attempt.messages, markers)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": job_run.max_output_tokens,
        "messages": turns,
        "stream": True,
    }
    if attempt.call.deployment.service_tier:
        body["service_tier"] = attempt.call.deployment.service_tier
    if system:
        body["system"] = system
    if params.temperature is not None and "temperature" in taken:
        body["temperature"] = min(params.temperature, 1.0)  # its scale ends at 1
    if params.stop and "stop" in taken:
        body["stop_sequences"] = params.stop
    if params.response_schema is not None:
        _ask_for_schema(body, params.response_schema, taken)
    return body | _tools(params)


def _ask_for_schema(body: dict[str, Any], schema: dict[str, JsonValue], taken: frozenset[str]) -> None:
    if "response_schema" in taken and is_native_to_claude(schema, model=body["model"]):
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return
    turns, told = body["messages"], _text(in_words(schema))
    if turns and turns[-1]["role"] == "user":
        turns[-1]["content"].append(told)
    else:
        turns.append({"role": "user", "content": [told]})


def _tools(params: GenerationParams) -> dict[str, Any]:
    if not params.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in params.tools]}
    if params.tool_choice:
        named = {"type": "tool", "name": params.tool_choice}
        fields["tool_choice"] = _TOOL_CHOICES.get(params.tool_choice, named)
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **tool.parameters}}
    return fields | ({"description": tool.description} if tool.description else {})


def _markers(messages: Sequence[Message], *, long_lived: bool) -> dict[int, str]:
    """How long the prefix up to a message (by its position) is kept: on the last message of each static segment.

    At most four; the later ones say more. What lives an hour must come before what lives five minutes, and is asked
    for only where its price is known.
    """
    static = static_prefix(messages)
    ends = [
        position
        for position, message in enumerate(static)
        if position + 1 == len(static) or static[position + 1].cache_key != message.cache_key
    ][-_MOST_BREAKPOINTS:]
    markers: dict[int, str] = {}
    ttl = "5m"
    for position in reversed(ends):
        if long_lived and static[position].cache_ttl != "5m":
            ttl = "1h"
        markers[position] = ttl
    return markers


def _split(
    messages: Sequence[Message], markers: dict[int, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System blocks, and turns: neighbours of one role are one turn, tool results are the user's."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    as_user = system_as_user(messages)
    for position, message in enumerate(messages):
        blocks = _blocks(message)
        if blocks and position in markers:
            blocks[-1]["cache_control"] = {"type": "ephemeral", "ttl": markers[position]}
        if message.role == "system" and position != as_user:
            system += blocks
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return system, turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    parts = [TextPart(text=message.content)] if isinstance(message.content, str) else message.content
    blocks = [_image(part.url) if isinstance(part, ImagePart) else _text(part.text) for part in parts]
    blocks = [block for block in blocks if block.get("text") != ""]  # empty texts are refused
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": blocks}]
    for call in message.tool_calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})
    return blocks


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(url: str) -> dict[str, Any]:
    inline = inline_image(url)
    if inline is None:
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, encoded = inline
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": encoded}}
