"""What the twin does wrong on command: rules that pick calls, and what happens to a picked one."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal


class BadRule(ValueError):
    """A rule that the twin does not understand; the text names the field."""


@dataclass(frozen=True)
class Match:
    """Which calls a rule picks. Names and header values may hold `*`; `nth` counts the calls that fit the rest."""

    model: str = "*"
    dialect: str = "*"
    header: Mapping[str, str] = field(default_factory=dict)
    contains: str = ""
    nth: int | None = None


@dataclass(frozen=True)
class Behaviour:
    """What happens to a picked call. Fields left out mean: nothing unusual."""

    latency_ms: int = 0
    chunk_ms: int = 0
    status: int | None = None
    retry_after: float | str | None = None
    retry_after_ms: int | None = None
    code: str | None = None
    body: str | None = None
    content_type: str = "application/json"
    location: str | None = None
    headers: Mapping[str, str] | None = None
    bill: bool = False
    drop: bool = False
    hang: bool | Literal["mid_stream"] = False
    break_after_chunks: int | None = None
    error_after_chunks: int | None = None
    no_finish_reason: bool = False
    no_usage: bool = False
    garbage: bool = False
    endless: bool | Literal["line"] = False
    wrong_usage: Mapping[str, Any] | None = None
    reasoning_tokens: int = 0
    finish: Literal["stop", "length", "content_filter"] | None = None
    answer: str | None = None
    output_tokens: int | None = None
    answering_model: str | None = None
    service_tier: str | None = None
    wrong_vectors: Literal["missing", "twice", "short", "nan", "shuffled"] | None = None

    @property
    def by_token(self) -> bool:
        """Whether something happens between two tokens, so that they are sent one by one."""
        steps = (self.break_after_chunks, self.error_after_chunks)
        return steps != (None, None) or bool(self.chunk_ms or self.garbage or self.hang)


AS_USUAL = Behaviour()


@dataclass
class _Rule:
    match: Match
    behaviour: Behaviour
    times: int | None
    seen: int = 0


class Behaviours:
    """The rules in force, first match first; a rule is used up after `times` calls."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def reset(self) -> None:
        """No rules: every call is answered as usual."""
        self._rules.clear()

    def add(self, rules: Any) -> None:
        """Take a list of rules, all or none. Raises BadRule."""
        if not isinstance(rules, list):
            raise BadRule("send a list of rules")
        self._rules += [_read(rule) for rule in rules]

    def pick(self, *, model: str, dialect: str, headers: Mapping[str, str], text: str) -> Behaviour:
        """The behaviour of the first rule that fits this call, which counts as one of its times."""
        for rule in self._rules:
            if rule.times == 0 or not _fits(rule.match, model, dialect, headers, text):
                continue
            rule.seen += 1
            if rule.match.nth not in (None, rule.seen):
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule.behaviour
        return AS_USUAL


def _fits(match: Match, model: str, dialect: str, headers: Mapping[str, str], text: str) -> bool:
    if not fnmatch.fnmatchcase(model, match.model) or not fnmatch.fnmatchcase(dialect, match.dialect):
        return False
    if any(not fnmatch.fnmatchcase(headers.get(name, ""), value) for name, value in match.header.items()):
        return False
    return match.contains in text


def _read(rule: Any) -> _Rule:
    if not isinstance(rule, dict):
        raise BadRule("a rule is an object")
    what = dict(rule)
    match, times = what.pop("match", {}), what.pop("times", None)
    if not isinstance(match, dict):
        raise BadRule("match is an object")
    if times is not None and (not isinstance(times, int) or times < 1):
        raise BadRule("times is a whole number above 0, or left out for always")
    _known(match, Match)
    _known(what, Behaviour)
    return _Rule(Match(**match), Behaviour(**what), times)


def _known(given: Mapping[str, Any], kind: type[Match] | type[Behaviour]) -> None:
    names = {one.name for one in fields(kind)}
    for name in given:
        if name not in names:
            raise BadRule(f"unknown field {name}: known are {', '.join(sorted(names))}")
