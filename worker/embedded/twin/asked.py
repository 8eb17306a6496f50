"""What a call asks for, whichever dialect it came in, and what the twin says to it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any, Literal

DialectName = Literal["openai", "anthropic", "gemini"]


class Refused(Exception):
    """The request is answered with an error status, as the real provider would answer it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Segment:
    """One block of the prompt in the order that a cache sees it; `ttl` where a cache breakpoint stands."""

    text: str
    tokens: int
    ttl: str | None = None


@dataclass(frozen=True)
class Turn:
    """One message, as plain text."""

    role: str
    text: str


@dataclass(frozen=True)
class Asked:
    """A call in neutral terms; with `dimensions` each turn is an input that becomes a vector of that length."""

    dialect: DialectName
    model: str
    stream: bool
    include_usage: bool
    max_tokens: int
    segments: tuple[Segment, ...]
    system: str
    turns: tuple[Turn, ...]
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str | None = None
    schema: dict[str, Any] | None = None
    cache_key: str | None = None
    dimensions: int = 0
    as_base64: bool = False

    @property
    def input_tokens(self) -> int:
        """Every token of the prompt, cached or not."""
        return sum(segment.tokens for segment in self.segments)


@dataclass(frozen=True)
class Said:
    """The twin's answer; `pieces` are its output tokens in order, a tool call's arguments included."""

    pieces: tuple[str, ...]
    finish: Literal["stop", "length", "tool_calls", "content_filter"]
    tool: str | None = None
    vectors: tuple[tuple[int, array[float]], ...] = ()  # each with the index that it is sent under
    as_base64: bool = False

    @property
    def text(self) -> str:
        """The answer's text, or its tool call's arguments."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Counts:
    """Token counts of one call; `input_tokens` is the total, `long_write_tokens` is part of the writes."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    long_write_tokens: int = 0
    reasoning_tokens: int = 0
    service_tier: str | None = None  # what the wire says that it was served at
    wrong: dict[str, Any] = field(default_factory=dict)  # what the wire says instead, by the wire's names
