"""BM25 finds the document that holds the question's rare words."""

from producer_sdk.contract import Document
from worker.embedded.demo.retrieval import Retriever

DOCUMENTS = [
    Document(id="lease", text="A worker that is silent loses its lease and its jobs go to another worker."),
    Document(id="budget", text="The budget is reserved before the call and settled after it.", title="Money"),
    Document(id="long", text="worker " * 200 + "lease"),
    Document(id="other", text="Nothing of interest is written here."),
]


def test_the_best_document_comes_first_and_long_ones_gain_nothing_by_repeating() -> None:
    found = Retriever(DOCUMENTS).top("lease worker silent", 2)
    assert [one.id for one in found] == ["lease", "long"]


def test_titles_count_and_case_does_not() -> None:
    assert Retriever(DOCUMENTS).top("MONEY", 1)[0].id == "budget"


def test_a_question_without_any_known_word_still_gets_documents() -> None:
    assert [one.id for one in Retriever(DOCUMENTS).top("zzz", 3)] == ["lease", "budget", "long"]
