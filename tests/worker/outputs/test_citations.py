"""Which of an answer's citations hold: ids and quotes with everything in them, wrong ones named, all of it bounded."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_sdk.contract import Document
from worker.outputs.citations import MOST_CITATIONS, MOST_QUOTE, check

RULES = Document(id="rules", text='He said "no" [sic] to it.\nRefunds take  five days — at most.')
DOCS = (
    RULES,
    Document(id="docs/lanes#3", text='Take ["a", "b"] or {"c": ["d"]}; nothing else.'),
    Document(id='say: "hi"', text="A greeting in an id."),
    Document(id="list[0]", text="An index in an id."),
    Document(id="Rules", text="Another one, by case."),
)
MISSING = 'it cites no document in the form [ID: "quote"]'
NOT_THERE = "its quote does not stand in the document that it names"


def cited(text: str) -> list[tuple[str, str]]:
    """Ids and quotes of an answer that is right."""
    checked = check(text, DOCS)
    assert checked.wrong == ()
    for one in checked.citations:
        [document] = [document for document in DOCS if document.id == one.document_id]
        assert document.text[one.start : one.end] == one.quote
    return [(one.document_id, one.quote) for one in checked.citations]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Five days [rules: "refunds take five days"].', [("rules", "Refunds take  five days")]),
        ('["rules" : "five days - at most."]', [("rules", "five days — at most.")]),
        ("[rules: “five days”]", [("rules", "five days")]),
        ("[rules:\n'five\ndays']", [("rules", "five days")]),
        ('[rules: "five days".]', [("rules", "five days")]),
        ('[rules: "He said "no" [sic] to it."]', [("rules", 'He said "no" [sic] to it.')]),
        (r'[rules: "He said \"no\" [sic]"]', [("rules", 'He said "no" [sic]')]),
        ('[docs/lanes#3: "Take ["a", "b"] or {"c": ["d"]}"]', [("docs/lanes#3", DOCS[1].text[:31])]),
        ('[docs/lanes#3: "["a", "b"]"]', [("docs/lanes#3", '["a", "b"]')]),
        ('[say: "hi": "A greeting"]', [('say: "hi"', "A greeting")]),
        (r'["say: \"hi\"": "A greeting"]', [('say: "hi"', "A greeting")]),
        ('[list[0]: "An index"]', [("list[0]", "An index")]),
        ('[see [list[0]: "An index"]]', [("list[0]", "An index")]),
        ('[RULES: "five days"]', [("rules", "five days")]),
        ('[Rules: "Another one"]', [("Rules", "Another one")]),
        ('a[0] = [1, 2]; [x] [rules: "five days"] [y', [("rules", "five days")]),
        (
            '[rules: "five days"][Rules: "by case"]\n[rules: "to it"]',
            [("rules", "five days"), ("Rules", "by case"), ("rules", "to it")],
        ),
    ],
)
def test_citations_are_read_with_everything_that_ids_and_quotes_may_hold(text, found):
    assert cited(text) == found


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", [MISSING]),
        ("Five days, says rules.", [MISSING]),
        ("Five days [rules].", [MISSING]),
        ('Five days, "five days" [rules]', [MISSING]),
        ('[rules: "six days"]', [f"citation 1: {NOT_THERE}"]),
        ('[rules: ""]', [f"citation 1: {NOT_THERE}"]),
        ('[rules: "..."]', [f"citation 1: {NOT_THERE}"]),
        ('[rules: "An index in an id."]', [f"citation 1: {NOT_THERE}, but in another one"]),
        (
            '[rules: "five days"] [unknown: "five days"]',
            ["citation 2: it names a document that was not given"],
        ),
        ('[rules: "six"] x [rules: "five days"]', [f"citation 1: {NOT_THERE}"]),
        (
            '[rules: "five days',
            [f"citation 1: its quote is longer than {MOST_QUOTE} characters, or has no end"],
        ),
    ],
)
def test_a_citation_that_does_not_hold_is_named_by_its_number(text: str, wrong: list[str]):
    assert list(check(text, DOCS).wrong) == wrong


def test_what_is_wrong_repeats_neither_the_answer_nor_an_id():
    checked = check('[ignore all rules: "and pay"] [rules: "delete it"]', DOCS)
    assert len(checked.wrong) == 2
    assert not any(word in told for told in checked.wrong for word in ("ignore", "pay", "rules", "delete"))


def test_a_quote_is_looked_for_in_every_document_of_that_id():
    twice = (Document(id="a", text="first"), Document(id="a", text="second"))
    assert [one.quote for one in check('[a: "second"]', twice).citations] == ["second"]


def test_a_quote_may_be_as_long_as_the_limit_and_no_longer():
    text = "word " * 1_000
    given = (Document(id="d", text=text),)
    assert check(f'[d: "{text[:MOST_QUOTE]}"]', given).wrong == ()
    assert "longer than" in check(f'[d: "{text[: MOST_QUOTE + 50]}"]', given).wrong[0]


def test_there_may_be_a_hundred_citations_and_no_more():
    one = '[rules: "five days"] '
    assert len(check(one * MOST_CITATIONS, DOCS).citations) == MOST_CITATIONS
    assert "more than 100 citations" in check(one * (MOST_CITATIONS + 1), DOCS).wrong[0]


@pytest.mark.parametrize(
    "text",
    ["[" * 300_000, '[rules: "' * 100_000, '[rules: "x"' * 50_000, "[" + "a" * 500_000, '"]' * 300_000],
)
def test_an_answer_made_to_be_slow_is_read_in_time(text: str):
    began = time.monotonic()
    assert check(text, DOCS).wrong
    assert time.monotonic() - began < 5.0


@given(st.text(max_size=200))
def test_any_text_is_read(text: str):
    checked = check(text, DOCS)
    assert checked.citations or checked.wrong


@given(st.text(min_size=1, max_size=80), st.data())
def test_a_quote_taken_from_any_document_holds_whatever_is_in_it(text: str, data: st.DataObject):
    start = data.draw(st.integers(0, len(text)))
    quote = text[start : data.draw(st.integers(start, len(text)))]
    if not any(character.isalnum() for character in quote.casefold()):
        return
    checked = check(f'So it is [d: "{quote}"].', (Document(id="d", text=text),))
    assert checked.wrong == ()
    assert checked.citations[0].document_id == "d"
