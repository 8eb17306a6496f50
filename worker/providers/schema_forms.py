"""How a response_schema is asked for: natively where the provider takes this schema, else in words at the prompt's end.

A schema that a provider refuses costs the whole job, so only what is known to be taken is sent (as of 2026-11: OpenAI's
strict subset, the limits of Claude's output_config.format, DeepSeek's JSON mode). Every answer is checked here anyway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_IN_BOTH = frozenset(
    [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "anyOf",
        "$ref",
        "$defs",
    ]
)
_IN_BOTH |= frozenset(["definitions", "description", "title", "format", "default"])
_OPENAI_STRICT = _IN_BOTH | frozenset(
    ["pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
)
_OPENAI_STRICT |= frozenset(["multipleOf", "minItems", "maxItems"])
_CLAUDE_FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]
)
# What Gemini's responseJsonSchema reads of a schema (the SDK's GenerationConfig, 3.6.1); the rest is not kept to.
_GEMINI = frozenset(
    ["type", "format", "title", "description", "enum", "items", "minItems", "maxItems", "minimum"]
)
_GEMINI |= frozenset(["maximum", "anyOf", "properties", "additionalProperties", "required", "$defs", "$ref"])
_SCHEMAS_BY_NAME = ("properties", "$defs", "definitions")


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether OpenAI takes the schema as strict: every object closed, every property required, no other keywords."""
    if schema.get("type") != "object":
        return False
    return all(
        part.keys() <= _OPENAI_STRICT and _is_closed(part) and _names(part) == set(part.get("required") or ())
        for part in _parts(schema)
    )


def is_native_to_claude(schema: Mapping[str, Any], *, model: str) -> bool:
    """Whether this model takes the schema. What is no Claude, but speaks like it, makes a grammar of any schema."""
    if "claude" not in model:
        return True
    return not _is_recursive(schema) and all(
        part.keys() <= _IN_BOTH and _is_closed(part) and part.get("format", "date") in _CLAUDE_FORMATS
        for part in _parts(schema)
    )


def is_native_to_gemini(schema: Mapping[str, Any]) -> bool:
    """Whether Gemini keeps to all that the schema says: a subset of keywords, no recursion, texts and numbers alone in
    an enum, nothing beside a reference."""
    return not _is_recursive(schema) and all(
        part.keys() <= _GEMINI
        and ("$ref" not in part or len(part) == 1)
        and all(
            isinstance(one, str | int | float) and not isinstance(one, bool) for one in part.get("enum") or ()
        )
        for part in _parts(schema)
    )


def in_words(schema: Mapping[str, Any]) -> str:
    """The schema as a part of the prompt. It is no longer than what is reserved for a schema anyway."""
    told = json.dumps(schema, ensure_ascii=False)
    return f"Answer with JSON alone, with nothing before or after it, that fits this JSON Schema:\n{told}"


def _is_closed(part: Mapping[str, Any]) -> bool:
    is_object = part.get("type") == "object" or "properties" in part
    return not is_object or (part.get("additionalProperties") is False and "properties" in part)


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition leads to itself, or anything to the whole."""
    leads: dict[str, set[str]] = {"#": {"#"}}
    for kind in ("$defs", "definitions"):
        for name, part in (schema.get(kind) or {}).items():
            leads[f"#/{kind}/{name}"] = _references(part)
    for name in leads.keys() - {"#"}:
        met, ahead = set[str](), [*leads[name]]
        while ahead:
            one = ahead.pop()
            if one == name:
                return True
            if one not in met:
                met.add(one)
                ahead += leads.get(one, set())
    return "#" in _references(schema)


def _references(schema: Any) -> set[str]:
    return {part["$ref"] for part in _parts(schema) if isinstance(part.get("$ref"), str)}


def _names(part: Mapping[str, Any]) -> set[str]:
    properties = part.get("properties")
    return set(properties) if isinstance(properties, dict) else set()


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and every schema in it, as far as its keywords are those of the lists above."""
    parts = [schema]
    while parts:
        part = parts.pop()
        if not isinstance(part, dict):
            continue
        yield part
        for name in _SCHEMAS_BY_NAME:
            inner = part.get(name)
            parts += inner.values() if isinstance(inner, dict) else ()
        inner = part.get("anyOf")
        parts += inner if isinstance(inner, list) else ()
        parts += [part.get("items"), part.get("additionalProperties")]
