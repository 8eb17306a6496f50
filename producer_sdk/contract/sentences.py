"""A validation error as one sentence: which field, what is wrong, what would be right. Never the value."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_MOST_NAMED = 3
_MOST_READ = 1000
_LONGEST_STEP = 40
_Models = tuple[type[BaseModel], ...]


def explain(error: ValidationError, root: str, model: type[BaseModel] | None = None) -> str:
    """Up to three of the error's faults in one line; with `model`, a misspelt field gets the nearest name."""
    if (
        error.error_count() > _MOST_READ
    ):  # each costs microseconds, and a small compressed message may hold a million
        return f"{root}: {error.error_count()} fields are wrong: see docs/wire.md"
    models: _Models = (model,) if model else ()
    faults = list(dict.fromkeys(_fault(fault, root, models) for fault in _details(error)))
    more = f" (and {len(faults) - _MOST_NAMED} more)" if len(faults) > _MOST_NAMED else ""
    return "; ".join(faults[:_MOST_NAMED]) + more


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _fault(fault: ErrorDetails, root: str, models: _Models) -> str:
    unknown = fault["type"] == "extra_forbidden"
    path, inside = _place(fault["loc"][:-1] if unknown else fault["loc"], models)
    if unknown:
        name = str(fault["loc"][-1])
        return f"{root}{path}.{_short(name)}: unknown field{_nearest(name, inside)}"
    return f"{root}{path}: {_what(fault)}"


def _what(fault: ErrorDetails) -> str:
    """Pydantic's own words, except where they would repeat what was sent."""
    if fault["type"] == "missing":
        return "this field is required"
    if fault["type"] == "uuid_parsing":
        return "Input should be a UUID, as uuid4() or uuid7() make them"
    if fault["type"] == "union_tag_invalid":
        return f"its type should be one of {fault['ctx']['expected_tags']}"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    return fault["msg"]


def _place(loc: Sequence[int | str], models: _Models) -> tuple[str, _Models]:
    """The path in the producer's words, without pydantic's names of union members, and the models there."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
            continue
        tagged = tuple(model for model in models if _tag(model) == step)
        if len(models) > 1 and tagged:
            models = tagged
            continue
        field = _field(step, models)
        if models and field is None:
            continue
        path += f".{_short(step)}"
        models = _models_in(field.annotation) if field else models
    return path, models


def _tag(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("type")
    return field.default if field else None


def _field(name: str, models: _Models) -> Any:
    return next((model.model_fields[name] for model in models if name in model.model_fields), None)


def _models_in(annotation: Any) -> _Models:
    """The models that an annotation such as `str | list[TextPart | ImagePart]` speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for part in get_args(annotation) for model in _models_in(part))


def _short(name: str) -> str:
    """A field's name as it may be shown: a producer may have put anything there."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name[:_LONGEST_STEP])
    return printable + ("…" if len(name) > _LONGEST_STEP else "")


def _nearest(name: str, models: _Models) -> str:
    known = _names(models)
    close = difflib.get_close_matches(name[:_LONGEST_STEP], known, n=1)
    return f", did you mean '{known[close[0]]}'?" if close else ", remove it"


def _names(models: _Models) -> dict[str, str]:
    """The fields by name, those one floor down with their path: `temperature` is `params.temperature`."""
    below: dict[str, str] = {}
    fields: dict[str, str] = {}
    for model in models:
        for name, field in model.model_fields.items():
            fields[name] = name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                below |= {inner: f"{name}.{inner}" for inner in field.annotation.model_fields}
    return below | fields
