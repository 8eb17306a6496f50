"""The twin's embeddings: POST /v1/embeddings, and Gemini's models/MODEL:batchEmbedContents. Never streamed."""

from __future__ import annotations

import base64
import hashlib
import math
import sys
from array import array
from collections.abc import Sequence
from typing import Any, NoReturn

from worker.embedded.twin.asked import Asked, Counts, DialectName, Refused, Said, Segment, Turn
from worker.embedded.twin.behaviour import Behaviour
from worker.embedded.twin.dialect import required, segment
from worker.embedded.twin.openai_wire import OpenAIWire

DIMENSIONS = {"twin-embed": 256}
MOST_INPUT_TOKENS = 8_192
MOST_INPUTS = 2_048
MOST_GEMINI_INPUTS = 100
_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_STATUSES |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


def vectors(asked: Asked, behaviour: Behaviour) -> Said:
    """A vector for each input: always the same for the same text, and of unit length unless a rule says otherwise."""
    found = [vector(turn.text, asked.dimensions) for turn in asked.turns]
    indexed = list(enumerate(found))
    if behaviour.wrong_vectors == "missing":
        indexed.pop()
    elif behaviour.wrong_vectors == "twice":
        indexed[-1] = indexed[0]
    elif behaviour.wrong_vectors == "short":
        indexed = [(index, numbers[:-1]) for index, numbers in indexed]
    elif behaviour.wrong_vectors == "nan":
        indexed[0][1][0] = math.nan
    elif behaviour.wrong_vectors == "shuffled":
        indexed.reverse()
    return Said((), "stop", vectors=tuple(indexed), as_base64=asked.as_base64)


def vector(text: str, dimensions: int) -> array[float]:
    """The twin's vector of a text: a hash as float32, so that its likeness to others says nothing."""
    raw = array("H", hashlib.shake_256(text.encode()).digest(2 * dimensions))
    centred = [number - 32_767.5 for number in raw]
    length = math.hypot(*centred)
    return array("f", [number / length for number in centred])


class _Unstreamed:
    """What a stream would need."""

    def head(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> NoReturn:
        """Not called."""
        raise AssertionError("an embedding is never streamed")

    def chunk(self, said: Said, text: str, *, answer_id: str, model: str) -> NoReturn:
        """Not called."""
        raise AssertionError("an embedding is never streamed")

    def tail(
        self, said: Said, counts: Counts | None, *, answer_id: str, model: str, finish: bool
    ) -> NoReturn:
        """Not called."""
        raise AssertionError("an embedding is never streamed")

    def error_event(self, code: str | None, message: str) -> NoReturn:
        """Not called."""
        raise AssertionError("an embedding is never streamed")


class OpenAIEmbeddingsWire(_Unstreamed):
    """OpenAI's embeddings, as numbers or in base64."""

    name: DialectName = "openai"

    def read(self, body: dict[str, Any]) -> Asked:
        """The call in neutral terms. Raises Refused as OpenAI would."""
        model, given = required(body, "model", str), body.get("input")
        if model not in DIMENSIONS:
            raise Refused(404, "model_not_found", "The model does not exist or you do not have access to it.")
        inputs = [given] if isinstance(given, str) else given
        texts = _texts(inputs, MOST_INPUTS)
        return _asked("openai", model, texts, body.get("dimensions"), body.get("encoding_format") == "base64")

    def refusal(self, status: int, code: str | None, message: str) -> dict[str, Any]:
        """OpenAI's error body."""
        return OpenAIWire().refusal(status, code, message)

    def whole(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> dict[str, Any]:
        """The list of vectors."""
        vectors = [
            {"object": "embedding", "index": index, "embedding": _shown(numbers, said.as_base64)}
            for index, numbers in said.vectors
        ]
        usage: dict[str, Any] = {"prompt_tokens": counts.input_tokens, "total_tokens": counts.input_tokens}
        return {"object": "list", "data": vectors, "model": model, "usage": usage | counts.wrong}


class GeminiEmbeddingsWire(_Unstreamed):
    """Gemini's batchEmbedContents."""

    name: DialectName = "gemini"

    def read(self, body: dict[str, Any]) -> Asked:
        """The call in neutral terms. Raises Refused as Gemini would."""
        requests = required(body, "requests", list)
        models = {str(request.get("model", "")).removeprefix("models/") for request in requests}
        if len(models) != 1 or not models <= DIMENSIONS.keys():
            raise Refused(404, "NOT_FOUND", "models are not found, or not supported for embedContent.")
        contents = [request.get("content") or {} for request in requests]
        parts = [content.get("parts") or [{}] for content in contents]
        texts = _texts(["".join(part.get("text", "") for part in one) for one in parts], MOST_GEMINI_INPUTS)
        return _asked("gemini", models.pop(), texts, requests[0].get("outputDimensionality"), as_base64=False)

    def refusal(self, status: int, code: str | None, message: str) -> dict[str, Any]:
        """Google's error body."""
        stated = code if code in _STATUSES.values() else _STATUSES.get(status, "UNKNOWN")
        return {"error": {"code": status, "message": message, "status": stated}}

    def whole(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> dict[str, Any]:
        """The vectors in order, and how many tokens they took."""
        vectors = [{"values": _shown(numbers, as_base64=False)} for _index, numbers in said.vectors]
        usage: dict[str, Any] = {"promptTokenCount": counts.input_tokens}
        return {"embeddings": vectors, "usageMetadata": usage | counts.wrong}


def _texts(inputs: Any, most: int) -> list[str]:
    if not isinstance(inputs, list) or not inputs or not all(isinstance(one, str) and one for one in inputs):
        raise Refused(400, "invalid_request_error", "input: must be texts, none of them empty")
    if len(inputs) > most:
        raise Refused(400, "invalid_request_error", f"at most {most} inputs can be in one request")
    return inputs


def _asked(dialect: DialectName, model: str, texts: Sequence[str], dimensions: Any, as_base64: bool) -> Asked:
    most = DIMENSIONS[model]
    wanted = most if dimensions is None else dimensions
    if not isinstance(wanted, int) or not 1 <= wanted <= most:
        raise Refused(400, "invalid_request_error", f"dimensions: must be from 1 to {most}")
    segments: list[Segment] = [segment(text) for text in texts]
    if any(one.tokens > MOST_INPUT_TOKENS for one in segments):
        said = f"This model's maximum context length is {MOST_INPUT_TOKENS} tokens."
        raise Refused(400, "context_length_exceeded", said)
    return Asked(
        dialect=dialect,
        model=model,
        stream=False,
        include_usage=True,
        max_tokens=0,
        segments=tuple(segments),
        system="",
        turns=tuple(Turn("user", text) for text in texts),
        dimensions=wanted,
        as_base64=as_base64,
    )


def _shown(numbers: array[float], as_base64: bool) -> str | list[float]:
    if not as_base64:
        return numbers.tolist()
    sent = array("f", numbers)
    if sys.byteorder == "big":
        sent.byteswap()
    return base64.b64encode(sent.tobytes()).decode()
