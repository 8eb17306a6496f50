"""Uncertain calls whose cost somebody knows after all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from producer_sdk.contract import Usage, uuid7
from tests.worker.ledger.writing import PAID, TODAY, WORST, attempt_with, journalled
from worker.ledger.ledger import Settlement

KNOWN = Settlement("settled", 70, usage=Usage(input_tokens=5, output_tokens=1), model="s")


async def test_an_uncertain_call_is_settled_once_and_redis_is_told_anew(ledger, sql):
    attempt = await journalled(ledger)
    await ledger.mark_uncertain([attempt.id])
    await ledger.mirrored({attempt.id: (0, WORST)})
    [row] = await ledger.uncertain()
    assert (row.id, row.tenant, row.cost_pico) == (attempt.id, "acme", WORST)
    assert await ledger.reconcile({attempt.id: KNOWN}) == {attempt.id: "reconciled"}
    assert await ledger.reconcile({attempt.id: KNOWN}) == {attempt.id: "settled"}
    [event] = sql.events()
    assert (event.status, event.cost_usd, event.input_tokens) == ("settled", Decimal("0.000000000070"), 5)
    [unmirrored] = await ledger.unmirrored()
    assert (unmirrored.id, unmirrored.amount_pico) == (attempt.id, 70)
    assert await ledger.uncertain() == []


async def test_what_is_known_already_or_not_at_all_is_left_as_it_is(ledger, sql):
    paid, open_call, strange = await journalled(ledger), await journalled(ledger), uuid7()
    await ledger.settle(paid, PAID)
    told = await ledger.reconcile(dict.fromkeys((paid.id, open_call.id, strange), KNOWN))
    assert told == {paid.id: "settled", open_call.id: "in_flight", strange: "unknown"}
    assert [event.cost_usd for event in sql.events()] == [Decimal("0.000000000120")]


async def test_a_late_settle_by_its_worker_after_that_changes_nothing(ledger, sql):
    attempt = await journalled(ledger)
    await ledger.mark_uncertain([attempt.id])
    await ledger.reconcile({attempt.id: KNOWN})
    await ledger.settle(attempt, PAID)
    assert [event.cost_usd for event in sql.events()] == [Decimal("0.000000000070")]


async def test_uncertain_calls_can_be_asked_for_by_tenant(ledger):
    attempt = await journalled(ledger)
    await ledger.mark_uncertain([attempt.id])
    assert [row.id for row in await ledger.uncertain(tenant="acme")] == [attempt.id]
    assert await ledger.uncertain(tenant="globex") == []


async def test_the_sums_of_a_rebuild_can_be_read_without_one(ledger):
    paid, _open = await journalled(ledger), await journalled(ledger)
    await ledger.settle(paid, PAID)
    before = await ledger.epoch()
    sums = await ledger.window_sums(since=datetime.now(UTC) - timedelta(days=1))
    assert (sums.epoch, sums.settled) == (before, {TODAY: 120})
    assert [hold.worst_pico for hold in sums.holds] == [WORST]
    assert await ledger.epoch() == before


async def test_what_a_tenants_own_key_paid_is_kept_as_information_and_never_charged(ledger, sql):
    attempt = attempt_with(worst_pico=0, windows=())
    attempt.call = replace(attempt.call, own_key=True)
    await ledger.journal(attempt, worst_pico=0)
    await ledger.mark_uncertain([attempt.id])
    [event] = sql.events()
    assert (event.own_key, event.cost_usd, event.list_usd) == (True, 0, None)
    assert await ledger.reconcile({attempt.id: KNOWN}) == {attempt.id: "reconciled"}
    [event] = sql.events()
    assert (event.status, event.own_key, event.cost_usd) == ("settled", True, 0)
    assert event.list_usd == Decimal("0.000000000070")
    await ledger.settle(await journalled(ledger), PAID)
    rows = {row.group["key"]: (row.attempts, row.cost_pico) for row in await ledger.usage(("key",))}
    assert rows == {"tenant": (1, 0), "fleet": (1, 120)}
