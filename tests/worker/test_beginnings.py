"""How many of a worker's jobs begin at once."""

from __future__ import annotations

import pytest

from worker.beginnings import LONG_S, MOST_BEGINNING, Beginnings


@pytest.fixture
def beginnings() -> Beginnings:
    return Beginnings(most=2)


def test_there_is_room_for_so_many_and_each_that_leaves_makes_some(beginnings: Beginnings):
    assert beginnings.room(10.0) == 2
    beginnings.begin("a", 10.0)
    assert not beginnings.leave("a"), "there was room before"
    beginnings.begin("b", 10.0)
    beginnings.begin("c", 10.0)
    assert beginnings.room(10.0) == 0
    assert beginnings.leave("b")
    assert beginnings.room(10.0) == 1


def test_who_has_left_makes_no_room_a_second_time(beginnings: Beginnings):
    for tag in "abc":
        beginnings.begin(tag, 10.0)
    assert beginnings.leave("a")
    assert not beginnings.leave("a")
    assert beginnings.room(10.0) == 0


def test_what_takes_long_holds_up_no_other(beginnings: Beginnings):
    beginnings.begin("a", 10.0)
    beginnings.begin("b", 10.2)
    assert beginnings.next_s(10.5) == pytest.approx(LONG_S - 0.5)
    assert beginnings.room(10.0 + LONG_S) == 1
    assert beginnings.next_s(10.0 + LONG_S) == pytest.approx(0.2)
    assert beginnings.room(10.2 + LONG_S) == 2
    assert not beginnings.leave("a")


def test_a_whole_batch_of_jobs_may_begin():
    assert Beginnings().room(0.0) == MOST_BEGINNING
