"""The order of writes in docs/money.md, explored exhaustively: it is sound, and each of its repairs is needed."""

from __future__ import annotations

import pytest

from tests.property.money_model import BATCH_REPAIRS, CASES, ONE_ATTEMPT, REPAIRS, fault


def test_no_interleaving_of_one_attempt_and_three_rebuilds_goes_wrong():
    assert fault(("a1",), rebuilds=3) is None


def test_no_interleaving_of_two_attempts_passes_the_limit_or_locks_money_away():
    assert fault(("a1", "a2"), rebuilds=1) is None


def test_no_interleaving_of_a_batch_and_its_line_and_two_rebuilds_goes_wrong():
    assert fault(("B", "b1"), rebuilds=2) is None


def test_no_interleaving_of_a_batch_its_line_and_a_stranger_passes_the_limit_or_locks_money_away():
    assert fault(("B", "b1", "a1"), rebuilds=1) is None


@pytest.mark.parametrize("repair", {**REPAIRS, **BATCH_REPAIRS})
def test_without_this_repair_some_interleaving_does(repair: str):
    attempts, rebuilds, flushes = CASES.get(repair, ONE_ATTEMPT)
    assert fault(attempts, rebuilds=rebuilds, flushes=flushes, without=repair) is not None
