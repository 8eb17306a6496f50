"""The twin's books: they outlive a kill, and say the last that was known of every call."""

from __future__ import annotations

from pathlib import Path

from worker.embedded.twin.asked import Counts
from worker.embedded.twin.books import Books

COUNTS = Counts(
    input_tokens=100, output_tokens=10, cache_read_tokens=40, cache_write_tokens=20, long_write_tokens=5
)


def test_a_call_costs_what_its_parts_cost(tmp_path: Path):
    books = Books()
    number = books.open(attempt="a", dialect="anthropic", model="twin-small")
    books.close(number, "complete", status=200, counts=COUNTS)
    [call] = books.calls()
    assert call.cost_pico == 40 * 100_000 + 40 * 10_000 + 15 * 125_000 + 5 * 200_000 + 10 * 400_000


def test_a_call_that_never_generated_costs_nothing():
    books = Books()
    books.close(books.open(attempt=None, dialect="openai", model="twin-small"), "client_closed")
    assert books.totals() == {
        "calls": 1,
        "open": 0,
        "billed": 0,
        "cost_pico": 0,
        "input_tokens": 0,
        "output_tokens": 0,
    }


def test_a_new_life_knows_every_call_of_the_one_before(tmp_path: Path):
    path = tmp_path / "books.jsonl"
    books = Books(path)
    done = books.open(attempt="done", dialect="openai", model="twin-small")
    books.close(done, "complete", status=200, counts=COUNTS)
    books.generating(books.open(attempt="cut", dialect="openai", model="twin-small"), COUNTS)
    before = books.totals()
    books.shut()
    with path.open("ab") as file:
        file.write(b'{"number":3,"att')  # killed in the middle of a line
    again = Books(path)
    assert [(call.attempt, call.finished) for call in again.calls()] == [
        ("done", "complete"),
        ("cut", "broken"),
    ]
    assert again.totals() == {**before, "open": 0}
    assert again.open(attempt="new", dialect="openai", model="twin-small") == 3
    again.shut()
    third = Books(path)
    assert len(third.calls()) == 3
    third.shut()


def test_books_that_are_reset_start_empty_and_count_on(tmp_path: Path):
    books = Books(tmp_path / "books.jsonl")
    books.open(attempt="a", dialect="openai", model="twin-small")
    books.reset()
    assert books.calls() == []
    assert books.open(attempt="b", dialect="openai", model="twin-small") == 2
    books.shut()
    again = Books(tmp_path / "books.jsonl")
    assert [call.attempt for call in again.calls()] == ["b"]
    again.shut()
