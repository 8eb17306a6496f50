"""What the twin says: always the same answer to the same prompt, useful enough for a demo and for tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from worker.embedded.twin.asked import Asked, Said
from worker.embedded.twin.behaviour import Behaviour
from worker.embedded.twin.prices import pieces

_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+(.+?)\s*$", re.MULTILINE)
_LISTED = re.compile(
    r"(?:labels?|intents?|categor(?:y|ies)|classes|options|topics|one of)\b[^:\n]{0,80}:[ \t]*([^\n]+)",
    re.IGNORECASE,
)
_DOCUMENT = re.compile(
    r"""<document\b[^>]*?\bid=(?:"((?:[^"\\]|\\.)*)"|([^"\s>]+))[^>]*>(.*?)(?=<document\b|</document|\Z)""",
    re.DOTALL,
)
_AFTER_DOCUMENT = re.compile(r"</document[^>]*>")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")
_STOPWORDS = frozenset(
    {
        "and",
        "are",
        "but",
        "can",
        "did",
        "does",
        "for",
        "from",
        "has",
        "have",
        "how",
        "into",
        "its",
        "not",
        "that",
    }
    | {"the", "this", "was", "what", "when", "which", "why", "with", "you", "your"}
)
_MOST_QUOTED = 300


def say(asked: Asked, behaviour: Behaviour) -> Said:
    """The answer to a call, cut at its max_tokens."""
    text, tool = _wanted(asked, behaviour)
    said = pieces(text)
    finish = behaviour.finish or ("tool_calls" if tool else "stop")
    if len(said) > asked.max_tokens:
        said, finish = said[: asked.max_tokens], "length"
    return Said(tuple(said), finish, tool)


def _wanted(asked: Asked, behaviour: Behaviour) -> tuple[str, str | None]:
    if behaviour.answer is not None:
        return behaviour.answer, None
    if behaviour.output_tokens is not None:
        return " ".join(["word"] * behaviour.output_tokens), None
    question = next((turn.text for turn in reversed(asked.turns) if turn.role == "user"), "")
    if asked.tools and asked.tool_choice != "none" and asked.turns[-1].role == "user":
        tool = _tool(asked, question)
        return json.dumps(_instance(tool["schema"], question)), tool["name"]
    if asked.schema is not None:
        return json.dumps(_instance(asked.schema, question)), None
    return _in_words(asked, question), None


def _in_words(asked: Asked, question: str) -> str:
    documents = _documents(asked)
    if documents:
        return _cite(_AFTER_DOCUMENT.split(question)[-1], documents)
    found = labels(asked.system)
    if len(found) >= 2:
        return max(found, key=lambda label: _overlap(question, f"{label} {found[label]}"))
    if asked.turns[-1].role == "tool":
        return f"The tool answered: {asked.turns[-1].text[:_MOST_QUOTED]}"
    return f"The twin heard {len(question.split())} words: {' '.join(question.split()[:20])}"


def labels(system: str) -> dict[str, str]:
    """The labels that a system prompt lists, one a line or in one line after a colon, with their descriptions."""
    lines = _BULLET.findall(system)
    if len(lines) < 2:
        lines = [part for line in _LISTED.findall(system) for part in re.split(r"[,;|]", line)]
    found = {}
    for line in lines:
        label, _colon, description = line.partition(":")
        label = label.strip(" \t.`'\"")
        if label and len(label) <= 60:
            found[label] = description
    return found


def _documents(asked: Asked) -> list[tuple[str, str]]:
    """Every document's id and text, as the fence writes them."""
    found = [match.groups() for turn in asked.turns for match in _DOCUMENT.finditer(turn.text)]
    return [(_unescaped(quoted) if quoted else bare or "", text) for quoted, bare, text in found]


def _unescaped(quoted: str) -> str:
    try:
        return str(json.loads(f'"{quoted}"'))
    except ValueError:
        return quoted


def _cite(question: str, documents: Sequence[tuple[str, str]]) -> str:
    """The sentence that overlaps the question most, cited in the form that a worker asks for."""
    sentences = [(one.strip(), name) for name, text in documents for one in _SENTENCE.findall(text)]
    sentences = [(one, name) for one, name in sentences if len(one) > 1] or [
        (documents[0][1][:80], documents[0][0])
    ]
    quote, name = max(sentences, key=lambda sentence: _overlap(question, sentence[0]))
    return f'The documents say so: [{name}: "{quote[:_MOST_QUOTED].strip()}"]'


def _tool(asked: Asked, question: str) -> dict[str, Any]:
    named = [tool for tool in asked.tools if tool["name"] == asked.tool_choice]
    return (named or sorted(asked.tools, key=lambda tool: -_overlap(question, _described(tool))))[0]


def _described(tool: dict[str, Any]) -> str:
    return f"{tool['name']} {tool['description']}"


def _overlap(question: str, candidate: str) -> float:
    """Shared word stems, in proportion to the candidate's length; ties go to whoever stands first."""
    asked, offered = _stems(question), _stems(candidate)
    return len(asked & offered) / (len(offered) + 4)


def _stems(text: str) -> set[str]:
    words: Iterable[str] = re.findall(r"[a-z0-9]+", text.lower().replace("_", " "))
    return {word[:5] for word in words if len(word) > 2 and word not in _STOPWORDS}


def _instance(schema: dict[str, Any], question: str, depth: int = 0) -> Any:
    """A value that satisfies the usual parts of a JSON Schema; enums go to the best overlap."""
    if "enum" in schema:
        return max(schema["enum"], key=lambda value: _overlap(question, str(value)))
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        fields = schema.get("properties", {}) if depth < 8 else {}
        return {name: _instance(inner, question, depth + 1) for name, inner in fields.items()}
    if kind == "array":
        return [_instance(schema.get("items", {}), question, depth + 1)] if depth < 8 else []
    plain = {
        "integer": schema.get("minimum", 1),
        "number": schema.get("minimum", 1.0),
        "boolean": True,
        "null": None,
    }
    return plain[kind] if kind in plain else " ".join(question.split()[:8])[: schema.get("maxLength", 200)]
