"""The order of writes in docs/money.md, explored exhaustively: it is sound, and each of its repairs is needed."""

from __future__ import annotations

import pytest

from tests.property.money_model import REPAIRS, fault


def test_no_interleaving_of_one_attempt_and_three_rebuilds_goes_wrong():
    assert fault(("a1",), rebuilds=3) is None


def test_no_interleaving_of_two_attempts_passes_the_limit_or_locks_money_away():
    assert fault(("a1", "a2"), rebuilds=1) is None


@pytest.mark.parametrize("repair", REPAIRS)
def test_without_this_repair_some_interleaving_does(repair: str):
    attempts = ("a1", "a2") if repair in ("epoch", "void") else ("a1",)
    assert fault(attempts, rebuilds=3 if len(attempts) == 1 else 1, without=repair) is not None
