"""Finds a quote in a text whatever its case, white space, quotation marks and dashes, and says where it stands. Pure.

Both sides are folded alike; a folded text remembers where each of its pieces came from, so that a place found in it is
one of the text as it was given. White space counts only between two words of scripts that write it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_SPECIAL = re.compile(r"\s+|[^\x21-\x7e]|[`']")
_ALIKE = (
    dict.fromkeys("`'‘’‚‛“”„‟«»‹›′″´＂＇「」『』〝〞", '"')
    | dict.fromkeys("‐‑‒–—―−﹘﹣－", "-")
    | {"…": "..."}
)
_NO_SPACES = (("\u2e80", "\u9fff"), ("\uf900", "\ufaff"), ("\uff00", "\uffef"))  # Chinese, Japanese


@dataclass(frozen=True)
class Folded:
    """A text as quotes are compared. `starts` and `origins`: where each piece begins here, and in the text itself."""

    text: str
    starts: Sequence[int]
    origins: Sequence[int]
    literal: Sequence[bool]  # character for character, but for their case

    @property
    def says_something(self) -> bool:
        """Whether there is a letter or a digit in it."""
        return any(character.isalnum() for character in self.text)

    def origin(self, position: int) -> int:
        """Where in the text itself the character at a position of the folded text stands."""
        piece = bisect_right(self.starts, position) - 1
        inside = position - self.starts[piece] if self.literal[piece] else 0
        return self.origins[piece] + inside


def fold(text: str) -> Folded:
    """The text in small letters, decomposed, with one kind of quotation mark and dash, and nothing invisible."""
    growing = _Growing()
    last = 0
    for special in _SPECIAL.finditer(text):
        growing.add(text[last : special.start()].lower(), last, literal=True)
        last = special.end()
        if special.group().isspace():
            growing.space(special.start())
        else:
            growing.add(_folded(special.group()), special.start(), literal=False)
    growing.add(text[last:].lower(), last, literal=True)
    return growing.folded()


def find(quote: Folded, text: Folded) -> tuple[int, int] | None:
    """Where the quote stands first: the positions of its first character and after its last, in the text itself."""
    at = text.text.find(quote.text) if quote.says_something else -1
    if at < 0:
        return None
    return text.origin(at), text.origin(at + len(quote.text) - 1) + 1


class _Growing:
    """A folded text while it is put together."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._starts: list[int] = []
        self._origins: list[int] = []
        self._literal: list[bool] = []
        self._size = 0
        self._space: int | None = None  # where white space stands that may turn out to count

    def space(self, origin: int) -> None:
        """White space: it counts if it stands between two words."""
        self._space = origin if self._space is None else self._space

    def add(self, piece: str, origin: int, *, literal: bool) -> None:
        """The next piece; an empty one is nothing."""
        if not piece:
            return
        if self._space is not None and self._parts and _is_word(self._parts[-1][-1]) and _is_word(piece[0]):
            self._put(" ", self._space, literal=False)
        self._space = None
        self._put(piece, origin, literal=literal)

    def _put(self, piece: str, origin: int, *, literal: bool) -> None:
        self._parts.append(piece)
        self._starts.append(self._size)
        self._origins.append(origin)
        self._literal.append(literal)
        self._size += len(piece)

    def folded(self) -> Folded:
        """The whole."""
        return Folded("".join(self._parts), self._starts, self._origins, self._literal)


@lru_cache(maxsize=8_192)
def _folded(character: str) -> str:
    if character in _ALIKE:
        return _ALIKE[character]
    if unicodedata.category(character) in ("Cf", "Cc") or "\ufe00" <= character <= "\ufe0f":
        return ""
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFD", character).casefold())
    return "".join(_ALIKE.get(one, one) for one in plain)


def _is_word(character: str) -> bool:
    if any(first <= character <= last for first, last in _NO_SPACES):
        return False
    return character.isalnum() or unicodedata.combining(character) > 0
