"""Reads a stream of GenerateContentResponse events; it has no closing event, a finish reason says that it is whole.

Reasons are those of FinishReason and BlockedReason in google-genai 3.6.1; one that is not listed is no answer.
"""

from __future__ import annotations

import re
from typing import Any

import pydantic_core

from producer_sdk.contract import Usage
from worker.errors import Billed, FailureKind, ProviderError
from worker.providers.errors import broken, inside_stream
from worker.providers.fields import inner, objects, read_json, tokens, usage_of
from worker.providers.reply import Collected, Reply

# CONTINUATION: cut at the longest answer of one request, as MAX_TOKENS.
_ANSWERS = ("STOP", "MAX_TOKENS", "CONTINUATION")
# Why an answer, or a prompt (promptFeedback.blockReason), was withheld.
_WITHHELD = (
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "ESCALATION",
    "MODEL_ARMOR",
)
_OTHERWISE = {
    "MISSING_THOUGHT_SIGNATURE": FailureKind.INVALID_REQUEST,
    "PUP_LIMITED_DISABLED": FailureKind.AUTH,
}
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)
_SIGNED = "|"


class GeminiReader:
    """One answer in the Gemini dialect; see reply.Reader."""

    closed = False  # no event says that nothing follows

    def __init__(self) -> None:
        self._collected = Collected()
        self._calls = 0
        self._model = ""
        self._id = ""
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        return self._collected.size > 0

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come."""
        return self._finish is not None

    @property
    def usage(self) -> Usage | None:
        """The token counts reported so far; each event's counts replace those before."""
        return gemini_usage(self._usage)

    def new_text(self) -> str:
        """The text that has come since this was last asked."""
        return self._collected.new_text()

    def take(self, _name: str, data: bytes) -> None:
        """Read one event. Raises ProviderError, also for a prompt that was refused."""
        event = read_json(data)
        error = event.get("error")
        if error:
            stated = error if isinstance(error, dict) else {"message": str(error)[:200]}
            raise inside_stream(stated, begun=self.begun, usage=self.usage)
        self._model = _text(event, "modelVersion").removeprefix("models/") or self._model
        self._id = _text(event, "responseId") or self._id
        counts = inner(event, "usageMetadata")
        self._usage |= {name: count for name, count in counts.items() if count is not None}
        blocked = inner(event, "promptFeedback").get("blockReason")
        if isinstance(blocked, str) and blocked:
            raise self._withheld("the provider refused the prompt", blocked)
        for candidate in objects(event.get("candidates"))[:1]:
            self._candidate(candidate)

    def _candidate(self, candidate: dict[str, Any]) -> None:
        """What came of the answer; others beside the first are not asked for."""
        if candidate.get("index") not in (None, 0):
            return
        for part in objects(inner(candidate, "content").get("parts")):
            self._part(part)
        finish = candidate.get("finishReason")
        if isinstance(finish, str) and finish:
            self._finish = finish if _CODE.fullmatch(finish) else "OTHER"

    def _part(self, part: dict[str, Any]) -> None:
        text, call = part.get("text"), part.get("functionCall")
        if part.get("thought") is True:
            self._collected.grow(text)
        else:
            self._collected.add_text(text)
        self._collected.grow(inner(part, "inlineData").get("data"))
        if not isinstance(call, dict):
            return
        signature = part.get("thoughtSignature")
        self._collected.call(
            self._calls,
            call_id=call.get("id") or f"call_{_NOT_IN_IDS.sub('', self._id)[:24]}_{self._calls}",
            name=call.get("name"),
            arguments=pydantic_core.to_json(call.get("args") or {}).decode(),
            signature=f"{self._model}{_SIGNED}{signature}"
            if isinstance(signature, str) and signature
            else None,
        )
        self._calls += 1

    def reply(self) -> Reply:
        """The answer. Raises ProviderError when it was withheld or broke."""
        finish = self._finish or ""
        if finish in _WITHHELD:
            raise self._withheld("the provider withheld the answer", finish)
        if finish not in _ANSWERS:
            kind = _OTHERWISE.get(finish)
            if kind:
                raise ProviderError(
                    kind,
                    f"the provider gave no answer ({finish})",
                    billed=self._billed(),
                    usage=self.usage,
                    code=finish,
                )
            raise broken(
                "the provider gave the answer up", code=finish, billed=self._billed(), usage=self.usage
            )
        tier = _text(self._usage, "serviceTier").lower() or None
        calls = self._collected.tool_calls()
        return Reply(self._collected.text, calls, self._model, self.usage, service_tier=tier)

    def _withheld(self, what: str, reason: str) -> ProviderError:
        code = reason if _CODE.fullmatch(reason) else "SAFETY"
        return ProviderError(
            FailureKind.CONTENT_BLOCKED, what, billed=self._billed(), usage=self.usage, code=code
        )

    def _billed(self) -> Billed:
        return "yes" if self.usage else "unknown"


def gemini_usage(stated: dict[str, Any]) -> Usage | None:
    """Token counts; None when they cannot be.

    `promptTokenCount` has what came from the cache in it, `candidatesTokenCount` leaves the thoughts out, which are
    billed as output; where the total says that they are in it, they are not added.
    """
    if "promptTokenCount" not in stated:
        return None
    try:
        total = tokens(stated, "promptTokenCount") + tokens(stated, "toolUsePromptTokenCount")
        output, thoughts = tokens(stated, "candidatesTokenCount"), tokens(stated, "thoughtsTokenCount")
        if thoughts and tokens(stated, "totalTokenCount") != total + output:
            output += thoughts
        read = tokens(stated, "cachedContentTokenCount")
        return usage_of(total=total, output=output, read=read, written=0, reasoning=thoughts)
    except ValueError:
        return None


def signed_by(signature: str | None) -> tuple[str, str]:
    """The model that signed a tool call, and its signature; '' for what is not there."""
    model, mark, signed = (signature or "").partition(_SIGNED)
    return (model, signed) if mark else ("", model)


def _text(event: dict[str, Any], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""
