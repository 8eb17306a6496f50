"""The OpenAI dialect: chat completions, always streamed (developers.openai.com/api/reference/chat).

Spoken by OpenAI, DeepSeek, xAI, Groq, Mistral, n1n.ai, vLLM, llama.cpp and the twin, each with its own gaps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pydantic_core
from pydantic import JsonValue

from producer_sdk.contract import GenerationParams, ImagePart, Message, Tool
from worker.capabilities import taken_by
from worker.job_run import Attempt
from worker.providers.openai_reader import OpenAIReader
from worker.providers.prefix import static_prefix
from worker.providers.reply import Request, joined
from worker.providers.schema_forms import in_words, is_strict

_TOOL_CHOICES = ("auto", "none", "required")


class OpenAI:
    """The adapter for the OpenAI dialect."""

    def request(self, attempt: Attempt, *, base_url: str, key: str | None) -> Request:
        """The call to send."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        body = pydantic_core.to_json(_body(attempt, taken_by(attempt.call.deployment, base_url)))
        return Request(joined(base_url, "/v1/chat/completions"), headers, body)

    def reader(self) -> OpenAIReader:
        """What reads one answer's events."""
        return OpenAIReader()


def _body(attempt: Attempt, taken: frozenset[str]) -> dict[str, Any]:
    job_run = attempt.job_run
    params = job_run.job.params
    newer_name = "max_completion_tokens" in taken
    body: dict[str, Any] = {
        "model": attempt.call.deployment.model,
        "messages": [_message(message) for message in attempt.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens" if newer_name else "max_tokens": job_run.max_output_tokens,
    }
    if attempt.call.deployment.service_tier:
        body["service_tier"] = attempt.call.deployment.service_tier
    body |= _sampling(params, taken)
    body |= _tools(params)
    if params.response_schema is not None:
        _ask_for_schema(body, params.response_schema, taken)
    _ask_for_cache(body, job_run.messages, tenant=job_run.job.tenant, taken=taken)
    if "system" not in taken:
        for message in body["messages"]:
            message["role"] = "user" if message["role"] == "system" else message["role"]
    return body


def _ask_for_schema(body: dict[str, Any], schema: dict[str, JsonValue], taken: frozenset[str]) -> None:
    is_object = schema.get("type") == "object"
    if "response_schema" not in taken or not is_object:
        body["messages"].append({"role": "user", "content": in_words(schema)})
        if is_object and "json_object" in taken:
            body["response_format"] = {"type": "json_object"}
        return
    named = {"name": "answer", "schema": schema, "strict": is_strict(schema)}
    body["response_format"] = {"type": "json_schema", "json_schema": named}


def _sampling(params: GenerationParams, taken: frozenset[str]) -> dict[str, Any]:
    given = {"temperature": params.temperature, "seed": params.seed, "stop": params.stop or None}
    return {name: value for name, value in given.items() if value is not None and name in taken}


def _tools(params: GenerationParams) -> dict[str, Any]:
    if not params.tools:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in params.tools]}
    choice = params.tool_choice
    if choice:
        named = {"type": "function", "function": {"name": choice}}
        fields["tool_choice"] = choice if choice in _TOOL_CHOICES else named
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "parameters": {"type": "object", "properties": {}, **tool.parameters},
    }
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _message(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.name and message.role in ("user", "assistant"):
        fields["name"] = message.name
    if message.role == "tool":
        fields["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        fields["content"] = fields["content"] or None
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for call in message.tool_calls
        ]
    return fields


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str) or message.role != "user":
        return message.text  # only a user's message may hold images
    return [
        {"type": "image_url", "image_url": {"url": part.url}}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": part.text}
        for part in message.content
    ]


def _ask_for_cache(
    body: dict[str, Any], messages: Sequence[Message], *, tenant: str, taken: frozenset[str]
) -> None:
    """Say which prefix is static. From gpt-5.6 on, OpenAI charges for writing a prefix that ends at the last message
    unless told otherwise, so that for these models nothing but the static part is ever written."""
    static = static_prefix(messages)
    if static and "prompt_cache_key" in taken:
        named = f"{tenant}\0{static[-1].cache_key}".encode()
        body["prompt_cache_key"] = hashlib.sha256(named).hexdigest()[:32]
    if "cache_breakpoints" in taken:
        body["prompt_cache_options"] = {"mode": "explicit"}
        if static:
            last = body["messages"][len(static) - 1]
            if isinstance(last["content"], str):
                last["content"] = [{"type": "text", "text": last["content"]}]
            last["content"][-1]["prompt_cache_breakpoint"] = {"mode": "explicit"}
