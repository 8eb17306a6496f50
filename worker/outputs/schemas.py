"""A job's response_schema as jsonschema reads it, with bounds: what is wrong with the schema, or with an answer.

Nothing is fetched, patterns run in linear time (Rust's regex, through pydantic), and the work of one check is counted.
What is told of an answer is which part of the schema it does not meet, never what it says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema
import pydantic_core
import referencing
import referencing.exceptions
import referencing.jsonschema
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from pydantic import JsonValue
from pydantic_core import core_schema

MOST_JSON_CHARACTERS = 1_000_000
MOST_SCHEMA_BYTES = 65_536
MOST_DEPTH = 64
MOST_STEPS = 250_000  # a second or two at worst
MOST_TOLD = 3
_LONGEST_TOLD = 120
_DRAFTS = {
    "https://json-schema.org/draft/2020-12/schema": jsonschema.Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    "http://json-schema.org/draft-07/schema": jsonschema.Draft7Validator,
    "http://json-schema.org/draft-06/schema": jsonschema.Draft6Validator,
    "http://json-schema.org/draft-04/schema": jsonschema.Draft4Validator,
}
_NEWEST = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
# Keywords that begin the check anew for a whole schema, and may so multiply it.
_DEAR = {
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "unevaluatedProperties",
}
_DEAR_STEPS = 20
_NO_FORMATS = jsonschema.FormatChecker(())
_PROBES: tuple[Any, ...] = (None, 0, "", [], {})
_steps_left: ContextVar[int] = ContextVar("steps_left")


class TooMuchWork(Exception):
    """The check of one answer has taken all the steps that it may."""


def refusal(schema: Mapping[str, Any]) -> str | None:
    """Why no answer can be checked against this schema, as a clause; None where they can."""
    if depth(schema) > MOST_DEPTH:
        return f"it is nested deeper than {MOST_DEPTH} levels"
    text = pydantic_core.to_json(schema)
    if len(text) > MOST_SCHEMA_BYTES:
        return f"it has {len(text)} bytes, and may have {MOST_SCHEMA_BYTES}"
    compiled = _compiled(text)
    return compiled if isinstance(compiled, str) else None


def read(text: str, schema: Mapping[str, Any]) -> tuple[JsonValue, tuple[str, ...]]:
    """The JSON value that the text is, and what of the schema it does not meet."""
    if len(text) > MOST_JSON_CHARACTERS:
        return None, (f"it has more than {MOST_JSON_CHARACTERS} characters",)
    try:
        data: JsonValue = pydantic_core.from_json(_unwrapped(text), allow_inf_nan=False)
    except ValueError:
        return None, ("it is not JSON, or not whole",)
    if not _has_only_numbers(data):
        return None, ("a number of it is too large",)
    return data, faults(schema, data)


def faults(schema: Mapping[str, Any], value: Any) -> tuple[str, ...]:
    """What the value does not meet of a schema that is not refused: a few of its places, with what stands there."""
    compiled = _compiled(pydantic_core.to_json(schema))
    if isinstance(compiled, str):
        return (compiled,)
    _steps_left.set(MOST_STEPS)
    try:
        told = dict.fromkeys(map(_told, islice(compiled.iter_errors(value), 10 * MOST_TOLD)))
    except TooMuchWork:
        return ("it takes too long to be checked against the schema",)
    except RecursionError:
        return ("it is nested too deep to be checked against the schema",)
    return tuple(islice(told, MOST_TOLD))


def depth(value: Any) -> int:
    """How many levels of objects and lists a JSON value has; counted without recursion."""
    level, values = 0, [value]
    while values := [one for one in values if isinstance(one, dict | list)]:
        level += 1
        values = [inner for one in values for inner in (one.values() if isinstance(one, dict) else one)]
    return level


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, but for the names of fields."""
    values = [value]
    while values:
        one = values.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list):
            values += reversed(list(one.values()) if isinstance(one, dict) else one)


def _unwrapped(text: str) -> str:
    """The text without the fence of Markdown that models put around JSON."""
    inner = text.strip()
    if inner.startswith("```") and inner.endswith("```") and "\n" in inner:
        return inner[inner.index("\n") : -3]
    return inner


def _has_only_numbers(value: Any) -> bool:
    """Whether every number in a JSON value is one: 1e999 is read as infinite."""
    values = [value]
    while values:
        one = values.pop()
        if isinstance(one, float) and not math.isfinite(one):
            return False
        if isinstance(one, dict | list):
            values += one.values() if isinstance(one, dict) else one
    return True


@lru_cache(maxsize=256)
def _compiled(text: bytes) -> Validator | str:
    """The validator of a schema, or why there is none."""
    schema = pydantic_core.from_json(text)
    stated = schema.get("$schema", _NEWEST)
    draft = _DRAFTS.get(stated.rstrip("#")) if isinstance(stated, str) else None
    if draft is None:
        return "its $schema is not a draft of JSON Schema from 4 to 2020-12"
    try:
        draft.check_schema(schema, format_checker=_NO_FORMATS)
    except jsonschema.SchemaError as error:
        return f"it is no JSON Schema at {_pointer(error.absolute_path)}"
    wrong = _unusable(schema, draft)
    if wrong:
        return wrong
    validator: Validator = _bounded(draft)(schema, registry=referencing.Registry())
    _steps_left.set(MOST_STEPS)
    try:
        for probe in _PROBES:
            validator.is_valid(probe)
    except (RecursionError, TooMuchWork):
        return "it refers to itself without an end"
    except referencing.exceptions.Unresolvable:
        return "a $ref of it leads nowhere"
    return validator


def _unusable(schema: Any, draft: type[Validator]) -> str | None:
    """References that lead outside or nowhere, and patterns that have no linear time."""
    specification = referencing.jsonschema.specification_with(draft.META_SCHEMA.get("$schema", _NEWEST))
    resolver = referencing.Registry().resolver_with_root(specification.create_resource(schema))
    for number, part in enumerate(_objects(schema)):
        if number and isinstance(part.get("$id"), str):
            return "a part of it has an $id of its own"
        for reference in (part[name] for name in _REFERENCES if isinstance(part.get(name), str)):
            if not reference.startswith("#"):
                return "a $ref of it leads outside of it: nothing is fetched"
            try:
                resolver.lookup(reference)
            except referencing.exceptions.Unresolvable:
                return "a $ref of it leads nowhere"
        named = part.get("patternProperties")
        patterns = [part.get("pattern"), *(named if isinstance(named, dict) else ())]
        if not all(_pattern(pattern) for pattern in patterns if isinstance(pattern, str)):
            return "a pattern of it cannot be matched in linear time: look-around and back-references are refused"
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, the outermost first."""
    values = [value]
    while values:
        one = values.pop()
        if isinstance(one, dict):
            yield one
        if isinstance(one, dict | list):
            values += one.values() if isinstance(one, dict) else one


@lru_cache(maxsize=1_024)
def _pattern(pattern: str) -> pydantic_core.SchemaValidator | None:
    """What matches a pattern anywhere in a text; None for one that cannot be matched in linear time."""
    try:
        return pydantic_core.SchemaValidator(
            core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")
        )
    except pydantic_core.SchemaError:
        return None


def _matches(pattern: str, text: str) -> bool:
    matcher = _pattern(pattern)
    return matcher is not None and matcher.isinstance_python(text)


@lru_cache(maxsize=len(_DRAFTS))
def _bounded(draft: type[Validator]) -> type[Validator]:
    """The draft's validator with every keyword counted, and with patterns and unique items that take bounded time."""
    keywords = dict(draft.VALIDATORS)
    keywords |= {
        "pattern": _check_pattern,
        "patternProperties": _check_patterns,
        "uniqueItems": _check_unique,
    }
    bounded: type[Validator] = extend(  # type: ignore[no-untyped-call]  # types-jsonschema leaves it untyped
        draft, {name: _counted(name, check) for name, check in keywords.items()}
    )
    return bounded


def _counted(name: str, check: Callable[..., Any]) -> Callable[..., Any]:
    steps = _DEAR_STEPS if name in _DEAR else 1

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left = _steps_left.get() - steps - (len(value) if isinstance(value, dict | list) else 0)
        if left < 0:
            raise TooMuchWork
        _steps_left.set(left)
        yield from check(validator, value, instance, schema) or ()

    return counted


def _check_pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield jsonschema.ValidationError("the pattern does not match")


def _check_patterns(validator: Any, patterns: dict[str, Any], instance: Any, _schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, inner in patterns.items():
        for name, value in instance.items():
            if _matches(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _check_unique(validator: Any, wanted: bool, instance: Any, _schema: Any) -> Iterator[Any]:
    if wanted and validator.is_type(instance, "array"):
        told = {json.dumps(one, sort_keys=True) for one in instance}
        if len(told) < len(instance):
            yield jsonschema.ValidationError("two items are equal")


def _told(error: Any) -> str:
    """A place of the schema, and what it asks for, where that is short."""
    place, asked = _pointer(error.absolute_schema_path), error.validator_value
    if not error.validator:
        return f"{place}: false"  # a schema that takes nothing has no keyword to name
    if error.validator == "required" and isinstance(error.instance, dict):
        asked = [name for name in asked if name not in error.instance]
    shown = json.dumps(asked, ensure_ascii=False)
    return f"{place}: {shown}" if len(shown) <= _LONGEST_TOLD else place


def _pointer(path: Any) -> str:
    shown = "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return f"#/{shown}"[:_LONGEST_TOLD]
