"""Makes a ProviderError of a provider's error: its kind, who pays, when to try again; the tables are in failure_codes.

The code in the body goes before the status: a 429 for a spent quota is no 429 for haste. Messages are searched for a
few phrases, where a provider gives no code, and are never repeated: they may quote the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pydantic_core

from producer_sdk.contract import Usage
from worker.errors import Billed, FailureKind, ProviderError
from worker.providers.failure_codes import CODES, PHRASES, STATUS_FIRST, STATUSES

_GENERATED = (
    FailureKind.SERVER_ERROR,
    FailureKind.STREAM_BROKEN,
)  # every other kind of error event says: nothing was generated

_LONGEST_WAIT_S = 7 * 86_400.0
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_TRY_AGAIN = re.compile(r"try again in (?:(\d{1,6})m(?!s))?\s?(?:(\d{1,9}(?:\.\d{1,9})?)(ms|s))?")
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


def refused(
    provider: str, *, status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> ProviderError:
    """The error for an answer that is no success; `headers` by their names in lower case."""
    error = _error_in(body)
    kind, billed = _meaning(status, error)
    code = _shown_code(error) or ("redirect" if 300 <= status < 400 else None)
    return ProviderError(
        kind,
        f"{provider} answered {status}" + (f" ({code})" if code else ""),
        status=status,
        billed=billed,
        retry_after_s=retry_after_s(headers, error, now=now),
        code=code,
    )


def inside_stream(error: Mapping[str, Any], *, begun: bool, usage: Usage | None) -> ProviderError:
    """The error for one that came inside a stream that began with 200.

    Before the first token it means what it would have meant as a status; after it, the answer is broken.
    """
    code = _shown_code(error)
    found = next((CODES[one] for one in _codes(error) if one in CODES), None) or _by_phrase(error)
    kind = FailureKind.STREAM_BROKEN if begun or found is None else found
    return ProviderError(
        kind,
        "the provider sent an error inside its stream" + (f" ({code})" if code else ""),
        billed="unknown" if kind in _GENERATED else "no",
        usage=usage,
        retry_after_s=_wait_in_message(error),
        code=code or "error_event",
    )


def not_a_stream(body: bytes) -> ProviderError:
    """The error for a 200 whose body is no event stream: an error in disguise, a login page, a server that cannot."""
    error = _error_in(body)
    if error:
        return inside_stream(error, begun=False, usage=None)
    return broken("the provider answered 200 with no event stream", code="not_a_stream")


def broken(what: str, *, code: str, billed: Billed = "unknown", usage: Usage | None = None) -> ProviderError:
    """The error for an answer that came in part, or is not one."""
    return ProviderError(FailureKind.STREAM_BROKEN, what, billed=billed, usage=usage, code=code)


def retry_after_s(headers: Mapping[str, str], error: Mapping[str, Any], *, now: datetime) -> float | None:
    """Seconds to wait, from the first that says so: retry-after-ms, retry-after (seconds or a date), the body."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if _SECONDS.fullmatch(headers.get(name, "").strip()):
            return _wait(float(headers[name]) / 1000)
    stated = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(stated):
        return _wait(float(stated))
    date = _http_date(stated)
    if date:
        return _wait((date - now).total_seconds())
    return _wait_in_message(error)


def _wait(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _wait_in_message(error: Mapping[str, Any]) -> float | None:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and _SECONDS.fullmatch(delay.removesuffix("s")):
            return _wait(float(delay.removesuffix("s")))
    found = _TRY_AGAIN.search(_message(error))
    if not found or not (found[1] or found[2]):
        return None
    seconds = float(found[2] or 0) / (1000 if found[3] == "ms" else 1)
    return _wait(60 * int(found[1] or 0) + seconds)


def _meaning(status: int, error: Mapping[str, Any]) -> tuple[FailureKind, Billed]:
    unlisted: Billed = "unknown" if status >= 500 and not error else "no"
    known, billed = STATUSES.get(status, (None, unlisted))
    if status in STATUS_FIRST:
        return STATUS_FIRST[status], billed
    if status < 400:
        return FailureKind.SERVER_ERROR, "no" if status >= 300 else "unknown"
    found = next((CODES[code] for code in _codes(error) if code in CODES), None)
    if found is FailureKind.SERVER_ERROR and known:
        found = None  # the code for "something broke" says less than the status
    if found is None and status < 500:
        found = _by_phrase(error)
    return found or known or (
        FailureKind.INVALID_REQUEST if status < 500 else FailureKind.SERVER_ERROR
    ), billed


def _by_phrase(error: Mapping[str, Any]) -> FailureKind | None:
    message = _message(error).lower()
    return next((kind for phrase, kind in PHRASES if phrase in message), None)


def _error_in(body: bytes) -> dict[str, Any]:
    """The error object in a body: {"error": {…}}, [{"error": {…}}] or the object itself; empty when there is none."""
    try:
        value = pydantic_core.from_json(body)
    except ValueError:
        return {}
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) and error.keys() & {"message", "type", "code", "status"} else {}


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    """The codes of an error, the most telling first."""
    details = error.get("details")
    nested = details.get("error_code") if isinstance(details, dict) else None
    inner = error.get("innererror")
    deeper = inner.get("code") if isinstance(inner, dict) else None
    for code in (nested, deeper, error.get("code"), error.get("type"), error.get("status")):
        if isinstance(code, str) and _CODE.fullmatch(code):
            yield code


def _shown_code(error: Mapping[str, Any]) -> str | None:
    return next(_codes(error), None)


def _message(error: Mapping[str, Any]) -> str:
    message = error.get("message")
    return message[:2_000] if isinstance(message, str) else ""
