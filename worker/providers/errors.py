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
from worker.providers.failure_codes import (
    CODES,
    MAY_BE_BILLED,
    PHRASES,
    SPENT_PHRASES,
    SPENT_QUOTAS,
    STATUS_FIRST,
    STATUSES,
    UNKNOWN_MODEL,
    UNKNOWN_MODEL_PHRASES,
)

_GENERATED = (
    FailureKind.SERVER_ERROR,
    FailureKind.STREAM_BROKEN,
)  # every other kind of error event says: nothing was generated

_LONGEST_WAIT_S = 7 * 86_400.0
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_AMOUNT = r"(\d{1,9}(?:\.\d{1,9})?)\s?(milliseconds?|ms|minutes?|m|hours?|h|days?|d|seconds?|s)(?![a-z])"
_TRY_AGAIN = re.compile(rf"(?:try again|retry) (?:in|after) ((?:{_AMOUNT}\s?){{1,4}})", re.IGNORECASE)
_EACH_AMOUNT = re.compile(_AMOUNT, re.IGNORECASE)
_UNITS_S = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "s": 1.0}
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


def refused(
    provider: str, *, status: int, headers: Mapping[str, str], body: bytes, now: datetime
) -> ProviderError:
    """The error for an answer that is no success; `headers` by their names in lower case."""
    error = _error_in(body)
    wait_s, advised = (
        retry_after_s(headers, error, now=now),
        headers.get("x-should-retry", "").strip().lower(),
    )
    kind, billed = _meaning(status, error, advised=advised, waits=wait_s is not None)
    code = _shown_code(error) or ("redirect" if 300 <= status < 400 else None)
    return ProviderError(
        kind,
        f"{provider} answered {status}" + (f" ({code})" if code else ""),
        status=status,
        billed=billed,
        retry_after_s=wait_s,
        code=code,
        once_only=advised == "false",
        model_unknown=kind == FailureKind.INVALID_REQUEST and _is_model_unknown(status, error),
    )


def _is_model_unknown(status: int, error: Mapping[str, Any]) -> bool:
    """Whether the model is what is wrong: by its code, its words, or a 404: address and model are the deployment's."""
    message = _message(error).lower()
    return (
        status == 404
        or any(code in UNKNOWN_MODEL for code in _codes(error))
        or any(phrase in message for phrase in UNKNOWN_MODEL_PHRASES)
    )


def inside_stream(error: Mapping[str, Any], *, begun: bool, usage: Usage | None) -> ProviderError:
    """The error for one that came inside a stream that began with 200.

    Before the first token it means what it would have meant as a status; after it, the answer is broken.
    """
    code = _shown_code(error)
    found = _by_code(error) or _by_phrase(error)
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
    first = stated.partition(",")[0]  # a header that a proxy repeated
    if _SECONDS.fullmatch(first):
        return _wait(float(first))
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
    for detail in _details(error):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and _SECONDS.fullmatch(delay.removesuffix("s")):
            return _wait(float(delay.removesuffix("s")))
    found = _TRY_AGAIN.search(_message(error))
    if not found:
        return None
    return _wait(
        sum(float(amount) * _unit_s(unit.lower()) for amount, unit in _EACH_AMOUNT.findall(found[1]))
    )


def _unit_s(unit: str) -> float:
    if unit in ("ms", "millisecond", "milliseconds"):
        return 0.001
    return _UNITS_S[unit[0]]


def _meaning(
    status: int, error: Mapping[str, Any], *, advised: str, waits: bool
) -> tuple[FailureKind, Billed]:
    """`advised`: the x-should-retry header, which outweighs what is only guessed from the status."""
    unlisted: Billed = "unknown" if status >= 500 and not error else "no"
    known, billed = STATUSES.get(status, (None, unlisted))
    if any(code in MAY_BE_BILLED for code in _codes(error)):
        billed = "unknown"
    if status in STATUS_FIRST:
        return STATUS_FIRST[status], billed
    if status < 400:
        return FailureKind.SERVER_ERROR, "no" if status >= 300 else "unknown"
    stated = _stated(status, error, known)
    kind = stated or known
    if kind is FailureKind.AUTH and advised == "true" and stated is None:
        return FailureKind.SERVER_ERROR, billed  # a key that is worth trying again is not refused
    if kind is FailureKind.RATE_LIMITED and advised == "false" and not waits:
        return FailureKind.QUOTA_EXHAUSTED, billed  # to wait is of no use: no limit of haste
    passing = status >= 500 or advised == "true"
    return kind or (FailureKind.SERVER_ERROR if passing else FailureKind.INVALID_REQUEST), billed


def _stated(status: int, error: Mapping[str, Any], known: FailureKind | None) -> FailureKind | None:
    """What the body says; None where it says less than the status."""
    found = _by_code(error)
    if found is FailureKind.SERVER_ERROR and known:
        found = None  # the code for "something broke" says less than the status
    if found is FailureKind.INVALID_REQUEST and known and status >= 500:
        found = None  # a reseller's 503 with model_not_found: it has no channel for the model now
    return _by_phrase(error) if found is None and status < 500 else found


def _is_spent(error: Mapping[str, Any]) -> bool:
    """Whether Google says that a day's quota or the money is spent: it may name a short delay all the same."""
    violations = [one for detail in _details(error) for one in _objects(detail.get("violations"))]
    if any(quota in str(one.get("quotaId")) for one in violations for quota in SPENT_QUOTAS):
        return True
    message = _message(error).lower()
    return any(phrase in message for phrase in SPENT_PHRASES)


def _by_code(error: Mapping[str, Any]) -> FailureKind | None:
    if _is_spent(error):
        return FailureKind.QUOTA_EXHAUSTED
    return next((CODES[code] for code in _codes(error) if code in CODES), None)


def _by_phrase(error: Mapping[str, Any]) -> FailureKind | None:
    message = _message(error).lower()
    return next((kind for phrase, kind in PHRASES if phrase in message), None)


def _error_in(body: bytes) -> dict[str, Any]:
    """The error object in a body; empty when there is none.

    It is under `error`, the first of `errors`, or the body itself, which may be the only object of a list.
    """
    try:
        value = pydantic_core.from_json(body)
    except ValueError:
        return {}
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, dict):
        return {}
    error = value.get("error") or next(iter(_objects(value.get("errors"))), value)
    if isinstance(error, str):
        return {"message": error, "code": value.get("code"), "type": value.get("type")}
    return error if isinstance(error, dict) and error.keys() & {"message", "type", "code", "status"} else {}


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    """The codes of an error, the most telling first."""
    details = error.get("details")
    nested = details.get("error_code") if isinstance(details, dict) else None
    inner = error.get("innererror")
    deeper = inner.get("code") if isinstance(inner, dict) else None
    reasons = [detail.get("reason") for detail in _details(error)]
    for code in (nested, deeper, *reasons, error.get("code"), error.get("type"), error.get("status")):
        if isinstance(code, str) and _CODE.fullmatch(code):
            yield code


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Google's details; Anthropic's are one object."""
    return _objects(error.get("details"))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _shown_code(error: Mapping[str, Any]) -> str | None:
    return next(_codes(error), None)


def _message(error: Mapping[str, Any]) -> str:
    message = error.get("message")
    return message[:2_000] if isinstance(message, str) else ""
