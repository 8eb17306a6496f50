"""How a journal row may change: every state against every settlement, and the journal's refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from producer_sdk.contract import uuid7
from worker.ledger import rules
from worker.ledger.records import SettledState, Settlement
from worker.ledger.rows import AttemptRow, tombstone

NOW = datetime(2026, 11, 23, tzinfo=UTC)
STATES = get_args(SettledState)
settlements = st.builds(Settlement, st.sampled_from(STATES), st.integers(min_value=0, max_value=200))


def row(**fields) -> AttemptRow:
    whole = {"state": "in_flight", "worst_pico": 100, "windows": ("w",), "tag": "t", "epoch": 3, **fields}
    return AttemptRow(uuid7(), created_at=NOW, **whole)


def test_an_admitted_attempt_is_journalled():
    assert rules.refusal(None, row(), epoch=3) is None


def test_an_attempt_of_another_epoch_is_refused_and_told_why():
    assert rules.refusal(None, row(), epoch=4) == "it was admitted by the books of epoch 3, and 4 is in force"
    assert rules.refusal(None, row(epoch=5), epoch=4) is not None


def test_an_attempt_without_windows_has_no_epoch():
    assert rules.refusal(None, row(windows=(), epoch=0), epoch=4) is None


def test_a_repeat_is_no_refusal_even_after_a_rebuild():
    present = row()
    assert rules.refusal(present, present, epoch=4) is None


def test_a_row_that_is_void_or_settled_refuses_the_journal():
    wanted = row()
    assert rules.refusal(tombstone(wanted.id, now=NOW), wanted, epoch=3) == "its row is void"
    assert rules.refusal(row(state="uncertain"), wanted, epoch=3) == "its row is uncertain"
    assert rules.refusal(row(tag="another"), wanted, epoch=3) == "its row is in_flight"


@given(settlements, settlements, settlements)
def test_only_a_row_whose_cost_nobody_knew_is_settled_again_and_only_once(first, second, third):
    once = rules.settled(row(), first, now=NOW)
    twice = rules.settled(once, second, now=NOW + timedelta(seconds=1))
    is_late = first.state == "uncertain" and second.state != "uncertain"
    assert once.state == first.state
    assert (twice is not once) == is_late
    if twice.state != "uncertain":
        assert rules.settled(twice, third, now=NOW) is twice


@given(settlements)
def test_uncertain_costs_the_worst_case_and_void_nothing(settlement):
    after = rules.settled(row(), settlement, now=NOW)
    expected = {"uncertain": 100, "void": 0}.get(settlement.state, settlement.cost_pico)
    assert after.cost_pico == expected


def test_what_is_settled_waits_for_redis_only_if_it_has_windows():
    paid = Settlement("settled", 5)
    assert rules.settled(row(mirrored_epoch=2), paid, now=NOW).mirrored_epoch is None
    assert rules.settled(row(windows=()), paid, now=NOW).mirrored_epoch == 0


def test_redis_word_counts_for_the_amount_and_the_epoch_in_force():
    settled = rules.settled(row(), Settlement("settled", 5), now=NOW)
    assert rules.mirrored(settled, epoch=3, amount_pico=5, in_force=3).mirrored_epoch == 3
    assert rules.mirrored(settled, epoch=3, amount_pico=6, in_force=3) is settled
    assert rules.mirrored(settled, epoch=2, amount_pico=5, in_force=3) is settled
    held = row()
    assert rules.mirrored(held, epoch=3, amount_pico=0, in_force=3) is held
