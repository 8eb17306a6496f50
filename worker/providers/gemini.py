"""The Gemini dialect: generateContent, always streamed (ai.google.dev/api/generate-content)."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import pydantic_core
from pydantic import JsonValue

from producer_sdk.contract import GenerationParams, ImagePart, Message, TextPart, Tool, ToolCall
from worker.capabilities import inline_image, taken_by
from worker.job_run import Attempt
from worker.providers.gemini_reader import GeminiReader, signed_by
from worker.providers.prefix import system_as_user
from worker.providers.reply import Request, joined
from worker.providers.schema_forms import in_words, is_native_to_gemini

_TOOL_CHOICES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
# What Google's page on thought signatures says to send for a call that another model made.
_UNSIGNED = "skip_thought_signature_validator"
_SEEDS = 2**31


class Gemini:
    """The adapter for the Gemini dialect."""

    def request(self, attempt: Attempt, *, base_url: str, key: str | None) -> Request:
        """The call to send. The key is a header: a URL ends up in other people's logs."""
        model = attempt.call.deployment.model
        name = quote(model if "/" in model else f"models/{model}")
        url = joined(base_url, f"/v1beta/{name}:streamGenerateContent?alt=sse", version="/v1beta")
        body = pydantic_core.to_json(_body(attempt, taken_by(attempt.call.deployment, base_url)))
        return Request(url, {"x-goog-api-key": key} if key else {}, body)

    def reader(self) -> GeminiReader:
        """What reads one answer's events."""
        return GeminiReader()


def _body(attempt: Attempt, taken: frozenset[str]) -> dict[str, Any]:
    params, deployment = attempt.job_run.job.params, attempt.call.deployment
    names = (deployment.model, *deployment.answers_as)
    system, turns = _split(attempt.messages, names=names, taken=taken)
    config = {"maxOutputTokens": attempt.job_run.max_output_tokens} | _sampling(params, taken)
    if params.response_schema is not None:
        _ask_for_schema(config, turns, params, taken)
    body: dict[str, Any] = {"contents": turns, "generationConfig": config}
    if system:
        body["systemInstruction"] = {"parts": system}
    if deployment.service_tier:
        body["serviceTier"] = deployment.service_tier
    return body | _tools(params)


def _sampling(params: GenerationParams, taken: frozenset[str]) -> dict[str, Any]:
    seed = None if params.seed is None else params.seed % _SEEDS  # its seeds have 32 bits
    given = {
        "temperature": ("temperature", params.temperature),
        "seed": ("seed", seed),
        "stop": ("stopSequences", params.stop or None),
    }
    return {name: value for one, (name, value) in given.items() if value is not None and one in taken}


def _ask_for_schema(
    config: dict[str, Any], turns: list[dict[str, Any]], params: GenerationParams, taken: frozenset[str]
) -> None:
    schema: dict[str, JsonValue] = params.response_schema or {}
    beside_tools = not params.tools or "schema_with_tools" in taken
    if beside_tools and "response_schema" in taken and is_native_to_gemini(schema):
        config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
        return
    if beside_tools and "json_object" in taken:
        config["responseMimeType"] = "application/json"
    told = {"text": in_words(schema)}
    if turns and turns[-1]["role"] == "user":
        turns[-1]["parts"].append(told)
    else:
        turns.append({"role": "user", "parts": [told]})


def _tools(params: GenerationParams) -> dict[str, Any]:
    if not params.tools:
        return {}
    fields: dict[str, Any] = {"tools": [{"functionDeclarations": [_tool(tool) for tool in params.tools]}]}
    choice = params.tool_choice
    if choice:
        named = {"mode": "ANY", "allowedFunctionNames": [choice]}
        config = {"mode": _TOOL_CHOICES[choice]} if choice in _TOOL_CHOICES else named
        fields["toolConfig"] = {"functionCallingConfig": config}
    return fields


def _tool(tool: Tool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters:
        declared["parametersJsonSchema"] = {"type": "object", **tool.parameters}
    return declared


def _split(
    messages: Sequence[Message], *, names: Sequence[str], taken: frozenset[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system's parts, and turns: neighbours of one role are one turn, tool results are the user's."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    called: dict[str, str] = {}  # the functions' names by the calls' ids: a result must name its function
    as_user = system_as_user(messages)
    for position, message in enumerate(messages):
        parts = _result(message, called) if message.role == "tool" else _parts(message)
        called |= {call.id: call.name for call in message.tool_calls}
        parts += _calls(message.tool_calls, names=names, taken=taken)
        if message.role == "system" and position != as_user and "system" in taken:
            system += parts
            continue
        role = "model" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    return system, turns


def _parts(message: Message) -> list[dict[str, Any]]:
    given = [TextPart(text=message.content)] if isinstance(message.content, str) else message.content
    parts = [_image(part.url) if isinstance(part, ImagePart) else {"text": part.text} for part in given]
    return [part for part in parts if part.get("text") != ""]  # a part without a value is refused


def _image(url: str) -> dict[str, Any]:
    inline = inline_image(url)
    if inline:
        return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}
    kind, _encoding = mimetypes.guess_type(urlsplit(url).path)
    return {"fileData": {"fileUri": url} | ({"mimeType": kind} if kind else {})}


def _calls(calls: Sequence[ToolCall], *, names: Sequence[str], taken: frozenset[str]) -> list[dict[str, Any]]:
    """The calls of one turn. A signature goes back to the model that made it; where one is needed and none is there,
    the first call says so."""
    parts: list[dict[str, Any]] = []
    for call in calls:
        part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}}
        model, signature = signed_by(call.signature)
        if signature and (not model or model in names):
            part["thoughtSignature"] = signature
        parts.append(part)
    if parts and "unsigned_calls" not in taken and not any("thoughtSignature" in part for part in parts):
        parts[0]["thoughtSignature"] = _UNSIGNED
    return parts


def _result(message: Message, called: dict[str, str]) -> list[dict[str, Any]]:
    call_id = message.tool_call_id or ""
    name = called.get(call_id) or message.name or call_id
    response = {"id": call_id, "name": name, "response": {"output": message.text}}
    return [{"functionResponse": response}]
