"""A quote is found wherever it stands, however it is spaced, and its place is one of the text as it was given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.outputs.quotes import find, fold

LETTERS = st.text(st.sampled_from("aAbBzßİﬁÄäé̈ e\t\n\u00a0\u200b.,'\"“”’`-–…<|[]中文カ9"), max_size=40)
TEXTS = st.one_of(LETTERS, st.text(max_size=60))


def place(quote: str, text: str) -> str | None:
    """What stands at the place where the quote is found."""
    found = find(fold(quote), fold(text))
    return None if found is None else text[found[0] : found[1]]


@pytest.mark.parametrize(
    ("quote", "text", "found"),
    [
        ("Late  acks\nlose\tnothing", "So: late acks lose nothing.", "late acks lose nothing"),
        ("late acks", "LATE\n\n   ACKS", "LATE\n\n   ACKS"),
        ('it\'s "late"', "it’s “late”", "it’s “late”"),
        ("a - b...", "a – b…", "a – b…"),
        ("zero width", "zero\u200b wi\u00addth", "zero\u200b wi\u00addth"),
        ("STRASSE", "die Straße.", "Straße"),
        ("ﬁnal", "the final word", "final"),
        ("cafe\u0301 noir", "Café noir", "Café noir"),
        ("don't stop", "Don\u00b4t stop", "Don\u00b4t stop"),
        ("end, begin", "end ,begin", "end ,begin"),
        ("< |system|>", "<|system|>", "<|system|>"),
        ("中文字", "中\n文 字", "中\n文 字"),
        ("nowhere", "now here", None),
        ("now here", "nowhere", None),
        ("thé end", "the end", None),
        ("...", "and so on...", None),
        ("", "text", None),
        (" \n", "text", None),
    ],
)
def test_spaces_case_and_typography_do_not_matter_and_words_do(quote: str, text: str, found: str | None):
    assert place(quote, text) == found


@given(TEXTS, TEXTS, TEXTS)
def test_what_stands_in_a_text_is_found_there(before: str, quote: str, after: str):
    text = before + quote + after
    found = place(quote, text)
    if fold(quote).says_something:
        assert found is not None
        assert fold(quote).text in fold(found).text
    else:
        assert found is None


@given(TEXTS, st.data())
def test_a_quote_may_be_spaced_and_written_otherwise(text: str, data: st.DataObject):
    words = text.split()
    start = data.draw(st.integers(0, len(words)))
    words = words[start : data.draw(st.integers(start, len(words)))]
    quote = data.draw(st.sampled_from([" ", "\n", " \u00a0\t "])).join(words)
    changed = data.draw(st.sampled_from([str, str.upper, str.lower]))(quote).replace("’", "'")
    if fold(quote).says_something and fold(changed).text == fold(quote).text:
        assert place(changed, text) is not None


@given(TEXTS, TEXTS)
def test_a_place_holds_the_quote_and_nothing_else(quote: str, text: str):
    found = find(fold(quote), fold(text))
    if found is not None:
        start, end = found
        assert 0 <= start < end <= len(text)
        assert fold(quote).text in fold(text[start:end]).text
        assert (
            len(fold(text[start:end]).text) <= len(fold(quote).text) + 3
        )  # a letter that is folded into several


@given(TEXTS)
def test_folding_twice_is_folding_once(text: str):
    assert fold(fold(text).text).text == fold(text).text
