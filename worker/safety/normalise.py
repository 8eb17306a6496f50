"""What a text looks like to a scanner, and what a model may be shown of it: invisible characters never get through."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_SELECTORS = re.compile("[\U000e0100-\U000e01ef\ufe00-\ufe0e]+")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]"
)
# Joiners mean something between two letters of Persian or Hindi and inside an emoji, nothing beside ASCII.
_STRAY_JOINERS = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")
_JOINERS = re.compile("[\u200c\u200d]")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_FLAG_OF_A_REGION = re.compile("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{3,6}\U000e007f")
_ACCENTS = re.compile("[\u0300-\u036f]")
_SPACES = re.compile(r"(?:\s|\\[nrt])+")  # JSON in a tool result spells its line breaks
_EMPHASIS = re.compile(r"\*+|(?<![^\W_])_+|_+(?![^\W_])")
_LONG_LIGATURES = re.compile("[\ufdfa\ufdfb]")  # one character each, that NFKC spells out in up to eighteen
_LOOKALIKES = str.maketrans(
    "асеорхуіјѕԁһӏԛԝкмнтвгпзα" + "οριντυκεχηγωϲ" + "ɡıſℓ",
    "aceopxyijsdhlqwkmhtbrn3a" + "opivtukexnywc" + "gisl",
)
_LETTERS_OF_TWO_SCRIPTS = re.compile("[a-z][\u0370-\u03ff\u0400-\u052f]|[\u0370-\u03ff\u0400-\u052f][a-z]")
SHOWN_HIDDEN_CHARACTERS = 3


class Visible(NamedTuple):
    """A text without what no reader sees, and how many tag characters and stray selectors it held."""

    text: str
    hidden: int


def visible(text: str) -> Visible:
    """The text as a reader sees it: zero-width, tag, direction and control characters are gone.

    Letters stay as they are: folding them (NFKC) would change formulas and quotes, so only the scanner does it.
    """
    if text.isascii():
        return Visible(_CONTROLS.sub("", text), 0)
    without_flags = _FLAG_OF_A_REGION.sub("", text)
    hidden = sum(len(run) for run in _TAGS.findall(without_flags))
    hidden += sum(len(run) for run in _SELECTORS.findall(text) if len(run) > SHOWN_HIDDEN_CHARACTERS)
    cleared = _TAGS.sub("", text)
    cleared = _SELECTORS.sub("", cleared)
    cleared = _INVISIBLE.sub("", cleared)
    cleared = _STRAY_JOINERS.sub("", cleared)
    return Visible(_CONTROLS.sub("", cleared), hidden)


def folded(text: str) -> str:
    """The text as rules compare it: NFKC, lower case, no accents, no emphasis, single spaces.

    A word that mixes Latin with Cyrillic or Greek letters is read as the Latin word that it looks like.
    """
    if text.isascii():
        return _SPACES.sub(" ", _EMPHASIS.sub("", text)).lower()
    short = _LONG_LIGATURES.sub(" ", _JOINERS.sub("", text))
    plain = unicodedata.normalize("NFKC", _EMPHASIS.sub("", short)).casefold()
    plain = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", plain)))
    return _SPACES.sub(" ", plain).replace("’", "'")


def looked_alike(plain: str) -> str | None:
    """A folded text with every lookalike letter read as Latin, where two scripts meet inside a word; else None."""
    return plain.translate(_LOOKALIKES) if _LETTERS_OF_TWO_SCRIPTS.search(plain) else None
