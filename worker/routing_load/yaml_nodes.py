"""YAML as places: every value knows its file, line and column, so that a mistake is one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.resolver import Resolver

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", re.ASCII)


@dataclass
class Faults:
    """What is wrong in one file, in the order found."""

    file: str
    found: list[str] = field(default_factory=list)

    def add(self, line: int, column: int, sentence: str) -> None:
        """Note a fault at a line and column, both counted from 1."""
        self.found.append(f"{self.file}:{line}:{column}: {sentence}")


@dataclass(frozen=True)
class Place:
    """One value of the file and the dotted path that leads to it; the root's path is empty."""

    node: yaml.Node
    path: str
    faults: Faults

    def fault(self, sentence: str) -> None:
        """Note that this value is wrong."""
        mark = self.node.start_mark
        where = f"{self.path}: " if self.path else ""
        self.faults.add(mark.line + 1, mark.column + 1, where + sentence)

    def below(self, step: str, node: yaml.Node) -> Place:
        """A place under this one."""
        return Place(node, f"{self.path}.{step}" if self.path else step, self.faults)

    def shown(self) -> str:
        """What stands here, as a sentence names it."""
        if isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "a list"
        text = str(self.node.value)
        return f"'{text if len(text) <= 60 else text[:57] + '...'}'" if text else "nothing"

    def entries(self) -> dict[str, Place]:
        """The entries of a mapping; a key that stands twice is a fault."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fault(f"found {self.shown()}, write a mapping of names to values")
            return {}
        entries: dict[str, Place] = {}
        for key, value in self.node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                self.below("?", key).fault("a key must be a plain name")
                continue
            at_key = self.below(key.value, key)
            if key.value in entries:
                first = entries[key.value].node.start_mark.line + 1
                at_key.fault(f"this key stands twice, first on line {first}: remove one of them")
                continue
            entries[key.value] = self.below(key.value, value)
        return entries

    def entry(self, name: str) -> Place | None:
        """The value under a key, if there is one; nothing here is a fault."""
        entries = self.node.value if isinstance(self.node, yaml.MappingNode) else []
        found = [value for key, value in entries if key.value == name]
        return self.below(name, found[0]) if found else None

    def fields(self, known: Collection[str], required: Collection[str] = ()) -> Fields:
        """A mapping with a known set of keys; others are faults, missing required ones too."""
        entries = self.entries()
        for name, value in list(entries.items()):
            if name not in known:
                del entries[name]
                key = next(key for key, _value in self.node.value if key.value == name)
                value_at_key = Place(key, value.path, self.faults)
                value_at_key.fault(f"unknown key{did_you_mean(name, known)}")
        for name in required:
            if name not in entries and isinstance(self.node, yaml.MappingNode):
                self.fault(f"'{name}' is missing: add it")
        return Fields(self, entries)

    def items(self) -> list[Place]:
        """The items of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.fault(f"found {self.shown()}, write a list")
            return []
        return [
            Place(node, f"{self.path}[{number}]", self.faults) for number, node in enumerate(self.node.value)
        ]

    def text(self) -> str:
        """A word or sentence, never empty; '' after a fault."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.value.strip():
            return str(self.node.value)
        self.fault(f"found {self.shown()}, write a text")
        return ""

    def name_of(self, known: Collection[str], what: str) -> str:
        """The name of something that exists; '' after a fault."""
        name = self.text()
        if not name or name in known:
            return name
        self.fault(f"there is no {what} '{name}'{did_you_mean(name, known)}")
        return ""

    def whole(self, *, low: int = 1, high: int = 1_000_000_000) -> int:
        """A whole number between two bounds; `low` after a fault."""
        value = int(self.node.value) if self._is_number(_WHOLE) and len(self.node.value) < 20 else None
        if value is not None and low <= value <= high:
            return value
        self.fault(f"found {self.shown()}, write a whole number from {low} to {high}")
        return low

    def amount(self, *, high: int = 1_000_000_000) -> Decimal:
        """An amount of money in USD, zero or more; 0 after a fault."""
        value = Decimal(self.node.value) if self._is_number(_NUMBER) else None
        if value is not None and 0 <= value <= high:
            return value
        quoted = ", without quotes" if isinstance(self.node, yaml.ScalarNode) and self.node.style else ""
        self.fault(
            f"found {self.shown()}, write an amount in USD from 0 to {high}{quoted}, for example 0.001"
        )
        return Decimal(0)

    def number(self, *, low: Decimal, high: int) -> Decimal:
        """A number between two bounds; `low` after a fault."""
        value = Decimal(self.node.value) if self._is_number(_NUMBER) else None
        if value is not None and low <= value <= high:
            return value
        self.fault(f"found {self.shown()}, write a number from {low} to {high}")
        return low

    def truth(self) -> bool:
        """True or false, written so; False after a fault."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.value in ("true", "false"):
            return str(self.node.value) == "true"
        self.fault(f"found {self.shown()}, write true or false")
        return False

    def is_scalar(self) -> bool:
        """Whether one value stands here, not a mapping or list."""
        return isinstance(self.node, yaml.ScalarNode)

    def names(self) -> list[str]:
        """The keys of a mapping, whatever they are; none of anything else."""
        node = self.node
        return [str(key.value) for key, _value in node.value] if isinstance(node, yaml.MappingNode) else []

    def is_mapping(self) -> bool:
        """Whether a mapping stands here."""
        return isinstance(self.node, yaml.MappingNode)

    def is_list(self) -> bool:
        """Whether a list stands here."""
        return isinstance(self.node, yaml.SequenceNode)

    def _is_number(self, pattern: re.Pattern[str]) -> bool:
        node = self.node
        return isinstance(node, yaml.ScalarNode) and not node.style and bool(pattern.fullmatch(node.value))


@dataclass(frozen=True)
class Fields:
    """The entries of one mapping, read by name; an absent one gives the default."""

    place: Place
    entries: dict[str, Place]

    def text(self, name: str) -> str | None:
        """The text under a name."""
        return self.entries[name].text() if name in self.entries else None

    def whole(self, name: str, *, low: int = 1, high: int = 1_000_000_000) -> int | None:
        """The whole number under a name."""
        return self.entries[name].whole(low=low, high=high) if name in self.entries else None

    def amount(self, name: str) -> Decimal | None:
        """The amount in USD under a name."""
        return self.entries[name].amount() if name in self.entries else None

    def number(self, name: str, *, low: Decimal, high: int) -> Decimal | None:
        """The number under a name."""
        return self.entries[name].number(low=low, high=high) if name in self.entries else None

    def truth(self, name: str, *, default: bool) -> bool:
        """True or false under a name."""
        return self.entries[name].truth() if name in self.entries else default

    def choice(self, name: str, choices: Collection[str]) -> Any:
        """One of several words under a name."""
        text = self.text(name)
        if text and text not in choices:
            self.entries[name].fault(f"found '{text}', write {' or '.join(choices)}")
        return text if text in choices else None

    def entries_of(self, name: str) -> dict[str, Place]:
        """The mapping under a name, empty when absent."""
        return self.entries[name].entries() if name in self.entries else {}


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The nearest known name as the end of a sentence, else what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f", did you mean '{close[0]}'?"
    names = sorted(known)
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f": use one of {shown}" if names else ": there is none yet"


def read_root(content: bytes, faults: Faults) -> Place | None:
    """The file's root, or None after a fault. Safe: tags make no objects, size and depth are bounded."""
    if len(content) > MAX_BYTES:
        faults.add(1, 1, f"the file has {len(content)} bytes, the limit is {MAX_BYTES}")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.add(
            content.count(b"\n", 0, error.start) + 1, 1, "this line is not UTF-8: save the file as UTF-8"
        )
        return None
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented by tabs, which YAML refuses
    try:
        events = _events(text)
        if events is None:
            faults.add(1, 1, f"the file nests more than {MAX_DEPTH} levels deep")
            return None
        node = _Parsed(events).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        faults.add(line, column, f"this is not YAML: {error.problem or error.context}")
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        faults.add(line, 1, "this line has a character that YAML does not allow")
        return None
    if node is None:
        faults.add(1, 1, "the file is empty: see docs/routing.md")
        return None
    return Place(node, "", faults)


def _events(text: str) -> list[yaml.Event] | None:
    """The whole text's events; None where it is too deep."""
    depth, events = 0, []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            return None
        events.append(event)
    return events


class _Parsed(Composer, Resolver):
    """Composes nodes from events that are there already; to parse is what takes the time."""

    def __init__(self, events: list[yaml.Event]) -> None:
        Composer.__init__(self)
        Resolver.__init__(self)
        self._events = events[::-1]

    def check_event(self, *kinds: type[yaml.Event]) -> bool:
        return bool(self._events) and isinstance(self._events[-1], kinds)

    def peek_event(self) -> yaml.Event:
        return self._events[-1]

    def get_event(self) -> yaml.Event:
        return self._events.pop()
