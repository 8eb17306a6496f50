"""A bound on the tokens of a job's input, by the model's vocabulary and chat format: what a call is reserved for.

Where the model's vocabulary is known the texts are counted with it. Else every UTF-8 byte is a token: no tokenizer
makes more of a text, unless it rewrites its characters first, and then they are counted as rewritten.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from producer_sdk.contract import GenerationParams, ImagePart, Message, TextPart
from worker.routing.chat_formats import ChatFormat

Count = Callable[[str], int]

BYTES_PER_TOKEN = 6  # more than real text has: a text left out for its length is surely too long
SPECIAL_AS_TEXT = 16  # no less than the tokens of a special token's name, where it is read as text
_PIECE = 100_000  # characters looked at in one go, so that other threads come in between
# Characters that Unicode's normal forms NFC and NFKC write with more bytes, and some neighbours (Unicode 16).
_GROWING = re.compile(
    "[\u00a8\u00af\u00b4\u00b8\u00bc-\u00be\u013f\u0140\u0149\u01c4-\u01c6\u02d8-\u02dd\u0344\u037a"
    "\u0384\u0385\u0587\u0675-\u0678\u0958-\u095f\u09dc-\u09df\u0a33-\u0a36\u0a59-\u0a5e\u0b5c\u0b5d"
    "\u0e33\u0eb3\u0edc\u0edd\u0f43-\u0f81\u0f93-\u0fb9\u1fc1-\u1fee\u2033-\u2037\u2057\u2150-\u2189"
    "\u222c-\u2230\u247d-\u2487\u2a0c\u2adc\u309b-\u309f\u30ff\u3200-\u33ff\ufa6c-\ufad7\ufb13-\ufb4f"
    "\ufbdd-\ufdfc\ufe71-\ufe7f\ufef5-\ufefc\U0001d15e-\U0001d1c0\U0001f12a\U0001f200-\U0001f248]"
)


@dataclass(frozen=True)
class InputBound:
    """Never fewer tokens than the provider counts, and what it surely counts at least.

    `longest`: what it surely counts of the longest input, where each is on its own.
    """

    highest: int
    lowest: int
    longest: int = 0


def input_bound(
    messages: Sequence[Message], params: GenerationParams, *, chat: ChatFormat, count: Count | None
) -> InputBound:
    """The bound for this chat format. `count` counts a text by the format's vocabulary; None: by bytes."""
    counted = _Counted(chat, count)
    total = chat.request + sum(counted.message(message) for message in messages)
    if params.tools:
        tools = (counted.json(tool.model_dump()) for tool in params.tools)
        total += chat.tools + sum(chat.tool + tokens for tokens in tools)
    if params.response_schema is not None:
        total += chat.schema + counted.json(params.response_schema)
    return InputBound(total, counted.surely)


@dataclass
class _Counted:
    """Counts the parts of a request, and adds up what is surely counted of the messages' texts."""

    chat: ChatFormat
    count: Count | None
    surely: int = field(default=0)

    def message(self, message: Message) -> int:
        """One message with everything in it."""
        chat = self.chat
        total = chat.message + (chat.assistant if message.role == "assistant" else 0)
        total += chat.tool_result if message.role == "tool" else 0
        texts, images = _texts(message)
        before = chat.before.format(role=message.role) if chat.before else ""
        for number, text in enumerate(texts):
            self.surely += self._at_least(text)
            quoted = message.role == "tool" and not chat.plain_json  # some templates write results as JSON
            shown = json.dumps(text, ensure_ascii=False) if quoted else text
            total += self.text(shown if number else before + shown) + (chat.part if number else 0)
        for named in (message.name, message.tool_call_id):
            total += chat.name + self.text(named) if named else 0
        for call in message.tool_calls:
            total += chat.call + self.text(call.id) + self.text(call.name) + self.json(call.arguments)
            total += self.text(call.signature) if call.signature and chat.signed else 0
        return total + images * chat.image

    def text(self, text: str) -> int:
        """At most so many tokens."""
        return self.count(text) if self.count else most_bytes(text)

    def json(self, value: Any) -> int:
        """A value as the format writes it; where that is not known, as long as JSON is ever written."""
        if self.chat.plain_json:
            return self.text(json.dumps(value, ensure_ascii=False))
        return self.text(json.dumps(value, indent=4))

    def _at_least(self, text: str) -> int:
        """Formats strip texts and leave out thoughts; servers may read a special token's name as that one token."""
        if "</think>" in text:
            return 0
        if self.count is None or not is_composed(text) or has_unsettled(text):
            return _bytes(text) // BYTES_PER_TOKEN  # a count would be one of bytes
        return max(0, self.count(text.strip()) - SPECIAL_AS_TEXT * text.count("<|"))


def _texts(message: Message) -> tuple[tuple[str, ...], int]:
    """The message's texts, and how many images it has."""
    if isinstance(message.content, str):
        return (message.content,), 0
    texts = tuple(part.text for part in message.content if isinstance(part, TextPart))
    return texts or ("",), sum(isinstance(part, ImagePart) for part in message.content)


def is_composed(text: str) -> bool:
    """Whether a tokenizer that composes characters first (NFC) reads the text as it stands."""
    return unicodedata.is_normalized("NFC", text)


def has_unsettled(text: str) -> bool:
    """Whether it has characters that are a letter by one version of Unicode and nothing by another.

    Tokenizers split words by such classes, each by the version that it was built with: then no count is a bound.
    """
    return not text.isascii() and any(unicodedata.category(one) in ("Cn", "Cs") for one in set(text))


def most_bytes(text: str) -> int:
    """The UTF-8 bytes of a text, in whichever normal form it has most of them."""
    if text.isascii():
        return len(text)
    growing: Counter[str] = Counter()
    for start in range(0, len(text), _PIECE):
        growing.update(_GROWING.findall(text, start, start + _PIECE))
    return _bytes(text) + sum(times * _growth(character) for character, times in growing.items())


def _growth(character: str) -> int:
    longest = max(_bytes(unicodedata.normalize(form, character)) for form in ("NFC", "NFKC"))
    return max(0, longest - _bytes(character))


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
