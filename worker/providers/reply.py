"""What an adapter makes of a call and of its answer; `openai`, `anthropic` and `gemini` are the adapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import pydantic_core

from producer_sdk.contract import ToolCall, Usage, Vectors
from worker.job_run import Attempt
from worker.providers.errors import broken
from worker.providers.halves import ends_in_half, whole

MOST_ANSWER_BYTES = 8 * 1024 * 1024
MOST_TOOL_CALLS = 1_000


@dataclass(frozen=True)
class Request:
    """One HTTP call. Headers and body hold keys and prompts: they are never shown.

    `is_whole`: it is answered by one body, which its reader takes in pieces, not by a stream of events.
    """

    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    is_whole: bool = False


@dataclass(frozen=True)
class Reply:
    """A complete answer. `usage` None: the provider did not say, or said what cannot be. `model` may be empty, and
    `service_tier` None: the provider did not say."""

    text: str = field(repr=False)
    tool_calls: tuple[ToolCall, ...] = field(repr=False)
    model: str
    usage: Usage | None
    long_write_tokens: int = 0
    service_tier: str | None = None
    vectors: Vectors | None = field(default=None, repr=False)


class Adapter(Protocol):
    """A wire format."""

    def request(self, attempt: Attempt, *, base_url: str, key: str | None) -> Request:
        """The call to send."""
        ...

    def reader(self) -> Reader:
        """What reads one answer's events."""
        ...


class Reader(Protocol):
    """Collects one answer from its events; tells at any moment what is known."""

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the provider has said that the answer is complete, and why it ended."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the stream's closing event has come: nothing follows."""
        ...

    @property
    def usage(self) -> Usage | None:
        """The token counts reported so far."""
        ...

    def new_text(self) -> str:
        """The answer's text that has come since this was last asked."""
        ...

    def take(self, name: str, data: bytes) -> None:
        """Read one event. Raises ProviderError for errors, refusals and garbage."""
        ...

    def reply(self) -> Reply:
        """The answer; only when finished. Raises ProviderError when it is none."""
        ...


class Collected:
    """An answer's text and tool calls as they grow, bounded."""

    def __init__(self) -> None:
        self.size = 0
        self._text: list[str] = []
        self._told = 0
        self._half = ""  # of a character: the rest comes with the next event
        self._calls: dict[object, _GrowingCall] = {}

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._text) + whole(self._half)

    def new_text(self) -> str:
        """The text that has come since this was last asked."""
        new, self._told = self._text[self._told :], len(self._text)
        return "".join(new)

    def add_text(self, text: Any) -> None:
        """More of the answer. Raises ProviderError above the limit."""
        if isinstance(text, str) and text:
            self.grow(text)
            text, self._half = self._half + text, ""
            if ends_in_half(text):
                text, self._half = text[:-1], text[-1]
            self._text.append(whole(text))

    def call(
        self,
        key: object,
        *,
        call_id: Any = None,
        name: Any = None,
        arguments: Any = None,
        signature: str | None = None,
    ) -> None:
        """More of the tool call that the provider knows by `key`."""
        if key not in self._calls and len(self._calls) == MOST_TOOL_CALLS:
            raise broken(f"the answer has over {MOST_TOOL_CALLS} tool calls", code="answer_too_large")
        growing = self._calls.setdefault(key, _GrowingCall())
        if isinstance(call_id, str) and call_id:
            growing.id = call_id
        if isinstance(name, str) and name:
            growing.name = name
        if isinstance(arguments, str) and arguments:
            growing.arguments.append(arguments)
        growing.signature = signature or growing.signature
        self.grow(f"{name or ''}{arguments or ''}{signature or ''} ")

    def grow(self, text: Any) -> None:
        """Count what came, kept or not (a model's thoughts are not kept). Raises ProviderError."""
        if text and isinstance(text, str):
            self.size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if self.size > MOST_ANSWER_BYTES:
            raise broken(f"the answer is over {MOST_ANSWER_BYTES} bytes", code="answer_too_large")

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls asked for. Raises ValueError when arguments are no JSON object."""
        return tuple(call.parsed(number) for number, call in enumerate(self._calls.values()))


@dataclass
class _GrowingCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    signature: str | None = None

    def parsed(self, number: int) -> ToolCall:
        arguments = pydantic_core.from_json(whole("".join(self.arguments)) or "{}", allow_inf_nan=False)
        if not isinstance(arguments, dict) or not self.name:
            raise ValueError("a tool call needs a name and an object of arguments")
        call_id = self.id or f"call_{number}"
        return ToolCall(id=call_id, name=self.name, arguments=arguments, signature=self.signature)


def joined(base_url: str, path: str, *, version: str = "/v1") -> str:
    """`path` (which begins with the version) under the base URL, whether that names its version or not."""
    base = base_url.rstrip("/")
    has_version = any(part[:1] == "v" and part[1:2].isdigit() for part in base.split("/")[3:])
    return base + (path.removeprefix(version) if has_version else path)
