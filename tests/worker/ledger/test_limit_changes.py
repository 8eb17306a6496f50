"""The log of what operators have changed of budgets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from producer_sdk.contract import uuid7
from worker.ledger.ledger import LimitChange, Overrides

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=34)


def change(kind: str, name: str, amount: int | None, *, at: datetime = NOW) -> LimitChange:
    return LimitChange(uuid7(), kind, name, amount, "a test", at)


async def test_the_last_limit_holds_and_top_ups_add_up(ledger):
    for number, one in enumerate(
        [
            change("set", "t:acme:d", 10),
            change("set", "t:acme:d", 20),
            change("set", "fleet:d", 5),
            change("set", "fleet:d", None),
            change("top_up", "t:acme:d:2026-11-24", 3),
            change("top_up", "t:acme:d:2026-11-24", 4),
        ]
    ):
        await ledger.change_limit(replace(one, created_at=NOW + timedelta(seconds=number)))
    assert await ledger.overrides(since=SINCE) == Overrides(6, {"t:acme:d": 20}, {"t:acme:d:2026-11-24": 7})


async def test_a_change_that_is_written_again_counts_once(ledger):
    one = change("top_up", "t:acme:d:2026-11-24", 3)
    await ledger.change_limit(one)
    await ledger.change_limit(one)
    assert await ledger.overrides(since=SINCE) == Overrides(1, {}, {"t:acme:d:2026-11-24": 3})


async def test_top_ups_of_windows_long_gone_are_left_out_and_limits_are_not(ledger):
    await ledger.change_limit(change("top_up", "t:acme:d:2026-01-01", 3, at=SINCE - timedelta(days=1)))
    await ledger.change_limit(change("set", "t:acme:d", 9, at=SINCE - timedelta(days=1)))
    assert await ledger.overrides(since=SINCE) == Overrides(2, {"t:acme:d": 9}, {})


async def test_a_rebuild_reads_them_in_its_own_transaction(ledger):
    await ledger.change_limit(change("set", "t:acme:d", 9))
    sums = await ledger.rebuild_sums(since=SINCE)
    assert sums.overrides == Overrides(1, {"t:acme:d": 9}, {})
