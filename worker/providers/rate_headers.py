"""What a provider's rate-limit headers say before it says 429: for how long nothing more is left (research: 4.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

_KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
_FAMILIES = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),  # OpenAI and those that speak its dialect
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
)
_COUNT = re.compile(r"-?\d{1,15}")
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_DURATION = re.compile(
    r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?"
)
_UNITS_S = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_LONGEST_S = 86_400.0


def exhausted_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds until the last of the limits with nothing left is whole again; None where each has something left.

    `headers` by their names in lower case. A limit whose reset cannot be read says nothing.
    """
    waits = [wait_s for wait_s in _waits(headers, now) if wait_s is not None and wait_s > 0]
    return min(max(waits), _LONGEST_S) if waits else None


def _waits(headers: Mapping[str, str], now: datetime) -> Iterator[float | None]:
    for remaining, reset in _FAMILIES:
        for kind in _KINDS:
            left = headers.get(remaining.format(kind), "").strip()
            if _COUNT.fullmatch(left) and int(left) <= 0:
                yield _until(headers.get(reset.format(kind), "").strip(), now)


def _until(reset: str, now: datetime) -> float | None:
    """A reset as seconds from now: "12.5", "6m0s", "120ms", or a moment."""
    if _SECONDS.fullmatch(reset):
        return float(reset)
    found = _DURATION.fullmatch(reset)
    if found and reset:
        return sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS_S, strict=True) if part)
    try:
        moment = datetime.fromisoformat(reset)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()
