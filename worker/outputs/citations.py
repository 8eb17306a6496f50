"""Citations: the form that the prompt asks for, and which of an answer's citations hold. Pure.

A citation is `[ID: "quote"]`. The quote may hold brackets and quotation marks: of the places where it may end, the last
at which it stands in its document is taken. Every search is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from producer_sdk.contract import Citation, Document
from worker.outputs.quotes import Folded, find, fold

FORM = (
    "Cite the documents that the answer rests on: after each statement write the id of its document and a quote from "
    'it, in exactly this form, where ID stands for the id: [ID: "quote"]\n'
    "The id is that of one of the given documents. The quote is copied from that document word for word, with nothing "
    "left out, and is one or two sentences at most. An answer without such a citation, or with one that does not hold, "
    "is not accepted. Where the answer is JSON, its citations stand inside its texts."
)
MOST_CITATIONS = 100
MOST_QUOTE = 2_000
_MOST_BRACKETS = 2_000
_MOST_ENDS = 8
_MOST_ID = 520  # an id has 256 characters at most, and may be written escaped
_MARKS = "\"'“”„‟‘’«»＂"
_HEAD = re.compile(r"\[([^\n]{1,%d}?)[ \t]{0,4}[:：]\s{0,4}[%s]" % (_MOST_ID, _MARKS))  # noqa: UP031 - braces
_SEPARATOR = re.compile(rf"[{_MARKS}]?[ \t]{{0,4}}[:：]\s{{0,4}}[{_MARKS}]")
_END = re.compile(rf"[{_MARKS}]\s{{0,4}}[.,;]?\s{{0,4}}\]")


@dataclass(frozen=True)
class Checked:
    """An answer's citations, in its order; `wrong` says what does not hold, in words that repeat nothing of it."""

    citations: tuple[Citation, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class _Cited:
    """A citation as it is written: the documents that its id names, and the quote for each place where it may end."""

    documents: tuple[Document, ...]
    quotes: tuple[tuple[str, int], ...]  # each with the position behind the citation


def check(text: str, documents: Sequence[Document]) -> Checked:
    """Which citations the answer has, and what is wrong with them: there must be one, and all must hold."""
    shelf = _Shelf(documents)
    citations: list[Citation] = []
    wrong: list[str] = []
    position = 0
    for _ in range(_MOST_BRACKETS):
        position = text.find("[", position) + 1
        cited = shelf.cited(text, position) if position else None
        if not position or len(citations) + len(wrong) > MOST_CITATIONS:
            break
        if cited is None:
            continue
        found, position = shelf.found(cited, behind=position)
        if isinstance(found, Citation):
            citations.append(found)
        else:
            wrong.append(f"citation {len(citations) + len(wrong) + 1}: {found}")
    if len(citations) + len(wrong) > MOST_CITATIONS:
        wrong.insert(0, f"it has more than {MOST_CITATIONS} citations")
    if not citations and not wrong:
        wrong.append('it cites no document in the form [ID: "quote"]')
    return Checked(tuple(citations), tuple(wrong))


class _Shelf:
    """The given documents, by their ids as a model may write them; each is folded once, when it is needed."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._folded: dict[int, Folded] = {}
        self._by_id: dict[str, list[Document]] = {}
        for document in documents:
            self._by_id.setdefault(fold(document.id).text, []).append(document)
        self._awkward = [form for document in documents for form in _forms(document.id) if _is_awkward(form)]

    def cited(self, text: str, start: int) -> _Cited | None:
        """The citation whose bracket opens just before `start`; None where it is another bracket."""
        for form in self._awkward:
            bare = start + (text[start : start + 1] in _MARKS and text[start : start + 1] != form[:1])
            if text.startswith(form, bare):
                opened = _SEPARATOR.match(text, bare + len(form))
                if opened:
                    return _Cited(tuple(self._named(form)), tuple(_quotes(text, opened.end())))
        head = _HEAD.match(text, start - 1)
        if head is None:
            return None
        documents = self._named(head[1])
        if not documents and "[" in head[1]:
            return None  # the citation begins at a later bracket, if it is one
        return _Cited(tuple(documents), tuple(_quotes(text, head.end())))

    def found(self, cited: _Cited, *, behind: int) -> tuple[Citation | str, int]:
        """The citation, or what is wrong with it; and where to read on."""
        for quote, end in reversed(cited.quotes):
            citation = self._standing(quote, cited.documents)
            if citation:
                return citation, end
        end = cited.quotes[0][1] if cited.quotes else behind
        if not cited.documents:
            return "it names a document that was not given", end
        if not cited.quotes:
            return f"its quote is longer than {MOST_QUOTE} characters, or has no end", end
        elsewhere = any(self._standing(quote, self._documents) for quote, _end in cited.quotes)
        where = ", but in another one" if elsewhere else ""
        return f"its quote does not stand in the document that it names{where}", end

    def _standing(self, quote: str, documents: Sequence[Document]) -> Citation | None:
        """The quote where it stands in the first of the documents that has it."""
        for wanted in dict.fromkeys((quote.strip(), quote.strip().replace('\\"', '"'))):
            folded = fold(wanted)
            for document in documents:
                start = document.text.find(wanted) if folded.says_something else -1
                place = (start, start + len(wanted)) if start >= 0 else find(folded, self._text(document))
                if place:
                    return _citation(document, *place)
        return None

    def _named(self, written: str) -> list[Document]:
        """The documents of an id, in quotation marks or bare: those whose id it is, else those it folds alike with."""
        for given in (_unquoted(written), written.strip(f" \t`{_MARKS}"), written):
            alike = self._by_id.get(fold(given).text, [])
            if alike:
                return [document for document in alike if document.id == given] or alike
        return []

    def _text(self, document: Document) -> Folded:
        folded = self._folded.get(id(document))
        if folded is None:
            folded = self._folded[id(document)] = fold(document.text)
        return folded


def _citation(document: Document, start: int, end: int) -> Citation:
    return Citation(document_id=document.id, quote=document.text[start:end], start=start, end=end)


def _quotes(text: str, start: int) -> Iterator[tuple[str, int]]:
    """What may be the quote that begins here, the shortest first, each with the position behind its bracket."""
    window = _END.finditer(text, start, start + MOST_QUOTE + 12)
    return ((text[start : end.start()], end.end()) for end in islice(window, _MOST_ENDS))


def _forms(document_id: str) -> tuple[str, str]:
    """An id as it is, and as the prompt shows it."""
    return document_id, json.dumps(document_id, ensure_ascii=False)[1:-1]


def _is_awkward(form: str) -> bool:
    """Whether an id holds what looks like the beginning of a quote, or a line break."""
    return "\n" in form or bool(_SEPARATOR.search(form))


def _unquoted(written: str) -> str:
    """An id as the prompt shows it: a JSON string, with its quotation marks or without them."""
    inner = written.strip()
    inner = inner if len(inner) > 1 and inner[0] == inner[-1] == '"' else f'"{inner}"'
    try:
        return str(json.loads(inner))
    except ValueError:
        return written
