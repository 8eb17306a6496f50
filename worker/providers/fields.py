"""Reads fields out of a provider's JSON, which may hold anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic_core

from producer_sdk.contract import Usage
from worker.providers.errors import broken
from worker.providers.halves import read_with_halves

_MOST_TOKENS = 2**31 - 1


def read_json(data: bytes) -> dict[str, Any]:
    """An event's object. Raises ProviderError."""
    try:
        value = _read(data)
    except ValueError as error:
        raise broken("the stream holds what is not JSON", code="garbage") from error
    if not isinstance(value, dict):
        raise broken("the stream holds what is not an object", code="garbage")
    return value


def _read(data: bytes) -> Any:
    try:
        return pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError:
        return read_with_halves(data)


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; nothing for anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def inner(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside an object; empty when there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def tokens(value: Mapping[str, Any], name: str) -> int:
    """A count; 0 when it is not there. Raises ValueError when it is no count."""
    count = value.get(name)
    if count is None:
        return 0
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST_TOKENS:
        raise ValueError(f"{name} is not a count of tokens")
    return count


def usage_of(*, total: int, output: int, read: int, written: int, reasoning: int) -> Usage:
    """Token counts. Raises ValueError when the parts are more than the whole."""
    if read + written > total:
        raise ValueError("the parts of the usage are more than the whole")
    return Usage(
        input_tokens=total,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=min(reasoning, output),
    )


def input_usage(stated: Mapping[str, Any], *names: str) -> Usage | None:
    """The counts of a call that has no output, by the first name that says more than 0; None when none does."""
    try:
        total = next((count for name in names if (count := tokens(stated, name))), 0)
        return usage_of(total=total, output=0, read=0, written=0, reasoning=0) if total else None
    except ValueError:
        return None
