"""A validation error as one sentence: which field, what is wrong, what would be right. Never the value."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

_MOST_NAMED = 3


def explain(error: ValidationError, root: str, model: type[BaseModel] | None = None) -> str:
    """Up to three of the error's faults in one line; a misspelt field is answered with the nearest name."""
    faults = [
        _fault(dict(fault), root, model) for fault in error.errors(include_url=False, include_input=False)
    ]
    more = f" (and {len(faults) - _MOST_NAMED} more)" if len(faults) > _MOST_NAMED else ""
    return "; ".join(faults[:_MOST_NAMED]) + more


def _fault(fault: dict[str, Any], root: str, model: type[BaseModel] | None) -> str:
    where = root
    for step in fault["loc"]:
        where += f"[{step}]" if isinstance(step, int) else f".{step}"
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown field{_nearest(str(fault['loc'][-1]), model)}"
    if fault["type"] == "missing":
        return f"{where}: this field is required"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"


def _nearest(name: str, model: type[BaseModel] | None) -> str:
    if model is None:
        return ", remove it or check its spelling"
    close = difflib.get_close_matches(name, model.model_fields, n=1)
    return f", did you mean '{close[0]}'?" if close else ", remove it"
