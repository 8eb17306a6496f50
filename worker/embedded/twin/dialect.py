"""What the server needs of a wire format; there are `openai_wire`, `anthropic_wire` and `gemini_wire`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from worker.embedded.twin.asked import Asked, Counts, DialectName, Refused, Said, Segment
from worker.embedded.twin.prices import (
    CONTEXT_TOKENS,
    MESSAGE_OVERHEAD_TOKENS,
    MOST_IMAGE_TOKENS,
    count_tokens,
)


class Dialect(Protocol):
    """One wire format. `events` yields the head, then one item for each output token, then the tail."""

    name: DialectName

    def read(self, body: dict[str, Any]) -> Asked:
        """The call in neutral terms. Raises Refused as the provider would."""
        ...

    def refusal(self, status: int, code: str | None, message: str) -> dict[str, Any]:
        """An error's body."""
        ...

    def whole(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> dict[str, Any]:
        """The answer to a call that did not ask for a stream."""
        ...

    def head(self, said: Said, counts: Counts, *, answer_id: str, model: str) -> bytes:
        """What a stream begins with."""
        ...

    def chunk(self, said: Said, text: str, *, answer_id: str, model: str) -> bytes:
        """One piece of the answer in a stream."""
        ...

    def tail(self, said: Said, counts: Counts | None, *, answer_id: str, model: str, finish: bool) -> bytes:
        """What a stream ends with: the finish reason unless `finish` is false, the usage unless it is None."""
        ...

    def error_event(self, code: str | None, message: str) -> bytes:
        """An error inside a stream that began well."""
        ...


def segment(text: str, *, ttl: str | None = None, overhead: int = 0, image_tokens: int = 0) -> Segment:
    """A block of the prompt with its tokens counted."""
    return Segment(text, count_tokens(text) + overhead + image_tokens, ttl)


def message_overhead(*, first: bool) -> int:
    """A message's overhead is counted with its first block."""
    return MESSAGE_OVERHEAD_TOKENS if first else 0


def image_tokens(url: str) -> int:
    """An image counts as its URL does, up to a most."""
    return min(count_tokens(url), MOST_IMAGE_TOKENS)


def required(body: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field that must be there. Raises Refused."""
    value = body.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Refused(400, "invalid_request_error", f"{name}: field required")
    return value


def sse(payload: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(payload, separators=(',', ':'))}\n\n".encode()


def fits_context(asked: Asked, refused: Refused) -> Asked:
    """The call, unless its prompt is over the context window."""
    if asked.input_tokens > CONTEXT_TOKENS:
        raise refused
    return asked


def parts_of(content: Any) -> Iterator[dict[str, Any]]:
    """A message's content as parts, whether it came as a string or as a list."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise Refused(400, "invalid_request_error", "content: must be a string or a list of parts")
    yield from content
