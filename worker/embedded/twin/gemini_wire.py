"""The twin's Gemini dialect: POST /v1beta/models/MODEL:generateContent and :streamGenerateContent."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from worker.embedded.twin.asked import Asked, Counts, DialectName, Refused, Said, Segment, Turn
from worker.embedded.twin.dialect import (
    fits_context,
    image_tokens,
    message_overhead,
    required,
    segment,
    sse,
)
from worker.embedded.twin.prices import CONTEXT_TOKENS, TWIN_PRICES

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISHES = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_CHOICES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
_UNSIGNED = "skip_thought_signature_validator"


class GeminiWire:
    """generateContent, streamed and whole."""

    name: DialectName = "gemini"

    def read(self, body: dict[str, Any]) -> Asked:
        """The call in neutral terms; `model` and `stream` come from its path. Raises Refused as Gemini would."""
        model, contents = body["model"], required(body, "contents", list)
        if model not in TWIN_PRICES:
            raise Refused(404, "NOT_FOUND", f"models/{model} is not found")
        config = body.get("generationConfig") or {}
        if config.get("responseJsonSchema") and config.get("responseMimeType") != "application/json":
            raise Refused(400, "INVALID_ARGUMENT", "response_mime_type must be application/json")
        tools = [one for tool in body.get("tools") or [] for one in tool.get("functionDeclarations") or []]
        segments = [segment(json.dumps(tool)) for tool in tools]
        system = [
            str(part.get("text", "")) for part in (body.get("systemInstruction") or {}).get("parts") or []
        ]
        segments += [segment(text, overhead=message_overhead(first=True)) for text in system]
        turns = _turns(contents, segments)
        asked = Asked(
            dialect="gemini",
            model=model,
            stream=body["stream"],
            include_usage=True,
            max_tokens=config.get("maxOutputTokens") or CONTEXT_TOKENS,
            segments=tuple(segments),
            system="\n".join(system),
            turns=tuple(turns),
            tools=tuple(_tool(tool) for tool in tools),
            tool_choice=_choice(body),
            schema=config.get("responseJsonSchema"),
        )
        said = f"The input token count exceeds the maximum number of tokens allowed ({CONTEXT_TOKENS})."
        return fits_context(asked, Refused(400, "INVALID_ARGUMENT", said))

    def refusal(self, status: int, code: str | None, message: str) -> dict[str, Any]:
        """A google.rpc.Status."""
        stated = code or _STATUSES.get(status, "UNKNOWN")
        return {"error": {"code": status, "message": message, "status": stated}}

    def whole(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> dict[str, Any]:
        """A GenerateContentResponse with the whole answer."""
        candidate = {"content": {"role": "model", "parts": _parts(said, answer_id)}, "index": 0}
        candidate["finishReason"] = _FINISHES[said.finish]
        return _response(answer_id, model) | {"candidates": [candidate], "usageMetadata": _usage(counts)}

    def head(self, _said: Said, counts: Counts, *, answer_id: str, model: str) -> bytes:
        """An event with the prompt's tokens alone."""
        return sse(_response(answer_id, model) | {"usageMetadata": _usage(counts)})

    def chunk(self, said: Said, text: str, *, answer_id: str, model: str) -> bytes:
        """A piece of text; a call of a function comes whole, at the end."""
        return b"" if said.tool else _event(answer_id, model, [{"text": text}])

    def tail(self, said: Said, counts: Counts | None, *, answer_id: str, model: str, finish: bool) -> bytes:
        """The function's call, the finish reason and the usage, in the last event."""
        parts = _parts(said, answer_id) if said.tool else [{"text": ""}]
        reason = _FINISHES[said.finish] if finish else None
        return _event(answer_id, model, parts, finish=reason, counts=counts)

    def error_event(self, code: str | None, message: str) -> bytes:
        """An event with an error."""
        return sse(self.refusal(500, code, message))


def _response(answer_id: str, model: str) -> dict[str, Any]:
    return {"modelVersion": model, "responseId": answer_id}


def _event(
    answer_id: str,
    model: str,
    parts: list[dict[str, Any]],
    *,
    finish: str | None = None,
    counts: Counts | None = None,
) -> bytes:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {} if counts is None else {"usageMetadata": _usage(counts)}
    return sse(_response(answer_id, model) | {"candidates": [candidate]} | usage)


def _usage(counts: Counts) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "promptTokenCount": counts.input_tokens,
        "candidatesTokenCount": counts.output_tokens - counts.reasoning_tokens,
        "totalTokenCount": counts.input_tokens + counts.output_tokens,
    }
    usage |= {"cachedContentTokenCount": counts.cache_read_tokens} if counts.cache_read_tokens else {}
    usage |= {"thoughtsTokenCount": counts.reasoning_tokens} if counts.reasoning_tokens else {}
    usage |= {"serviceTier": counts.service_tier} if counts.service_tier else {}
    return usage | counts.wrong


def _parts(said: Said, answer_id: str) -> list[dict[str, Any]]:
    if not said.tool:
        return [{"text": said.text}]
    try:
        arguments = json.loads(said.text)
    except ValueError:  # cut at its max_tokens
        arguments = {}
    call = {"id": f"fc_{answer_id}", "name": said.tool, "args": arguments}
    return [{"functionCall": call, "thoughtSignature": _signature(call)}]


def _signature(call: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([call.get("name"), call.get("args")], sort_keys=True).encode())
    return base64.b64encode(digest.digest()).decode()


def _choice(body: dict[str, Any]) -> str | None:
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    named = config.get("allowedFunctionNames") or []
    return named[0] if named else _CHOICES.get(str(config.get("mode")))


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    schema = tool.get("parametersJsonSchema") or {}
    return {"name": required(tool, "name", str), "description": tool.get("description", ""), "schema": schema}


def _turns(contents: list[Any], segments: list[Segment]) -> list[Turn]:
    """The contents as turns; their parts are added to the segments. Results must answer the calls before them."""
    turns: list[Turn] = []
    open_calls: list[str] = []
    for content in contents:
        if not isinstance(content, dict) or content.get("role") not in ("user", "model"):
            raise Refused(400, "INVALID_ARGUMENT", "Please use a valid role: user, model.")
        parts = content.get("parts")
        if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
            raise Refused(400, "INVALID_ARGUMENT", "contents.parts must not be empty.")
        results = [part["functionResponse"].get("name") for part in parts if "functionResponse" in part]
        if results != open_calls:
            raise Refused(400, "INVALID_ARGUMENT", "each function call needs its function response next.")
        open_calls = [part["functionCall"].get("name") for part in parts if "functionCall" in part]
        for number, part in enumerate(parts):
            segments.append(_segment(part, first=number == 0))
        text = "\n".join(_text(part) for part in parts if "functionCall" not in part)
        role = "tool" if results and len(results) == len(parts) else content["role"]
        turns.append(Turn("assistant" if role == "model" else role, text))
    if not turns:
        raise Refused(400, "INVALID_ARGUMENT", "contents is not specified")
    return turns


def _segment(part: dict[str, Any], *, first: bool) -> Segment:
    signature, call = part.get("thoughtSignature"), part.get("functionCall")
    if call and signature not in (None, _UNSIGNED, _signature(call)):
        raise Refused(400, "INVALID_ARGUMENT", "Corrupted thought signature.")
    image = part.get("inlineData", {}).get("data") or part.get("fileData", {}).get("fileUri") or ""
    return segment(_text(part), overhead=message_overhead(first=first), image_tokens=image_tokens(image))


def _text(part: dict[str, Any]) -> str:
    if "functionCall" in part:
        return json.dumps(part["functionCall"])
    if "functionResponse" in part:
        return str((part["functionResponse"].get("response") or {}).get("output", ""))
    return str(part.get("text", ""))
