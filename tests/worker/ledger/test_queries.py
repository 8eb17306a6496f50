"""What people ask the ledger, and that its sums are exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select

from producer_sdk.contract import Usage, to_usd
from tests.worker.job_runs import answer_of, job_of
from tests.worker.ledger.writing import PAID, final_of, journalled, run_with
from worker.ledger.columns import Usd, as_pico
from worker.ledger.ledger import DIMENSIONS, Settlement, Span, Totals, UsageRow


@pytest.fixture
async def spent(ledger):
    """acme: two chats on s, one of them uncertain, and a hit; zeta: one chat on l."""
    await ledger.settle(await journalled(ledger, run_with(job_of(feature="chat"))), PAID)
    unsure = await journalled(ledger, run_with(job_of(feature="chat")))
    await ledger.mark_uncertain([unsure.id])
    run, hit = run_with(job_of(feature="faq")), answer_of(cost_pico=0, cache="exact", saved_pico=500)
    await ledger.finish(run, run.result_of(hit), answer=hit)
    usage = Usage(input_tokens=7, output_tokens=3, cache_read_tokens=2)
    run_of_zeta = run_with(job_of(tenant="zeta", feature="chat"))
    other = await journalled(ledger, run_of_zeta, worst_pico=6000)
    await ledger.settle(other, Settlement("settled", 5000, usage=usage, model="l", saved_pico=1))
    await journalled(ledger)  # in flight: in no usage yet
    return ledger


async def test_usage_by_tenant_the_dearest_first(spent):
    assert await spent.usage(("tenant",)) == [
        UsageRow({"tenant": "zeta"}, 1, 0, 0, 7, 3, 2, 5000, 1),
        UsageRow({"tenant": "acme"}, 2, 1, 1, 10, 2, 0, 1120, 500),
    ]


async def test_usage_by_several_dimensions(spent):
    rows = await spent.usage(("tenant", "feature", "model"))
    assert [tuple(row.group.values()) for row in rows] == [
        ("zeta", "chat", "l"),
        ("acme", "chat", "s"),
        ("acme", "faq", "s"),
    ]


async def test_usage_by_day_names_the_day_in_utc(spent):
    (row,) = await spent.usage(("day",))
    assert row.group == {"day": datetime.now(UTC).date().isoformat()}


async def test_every_dimension_can_be_asked_for(spent):
    for dimension in DIMENSIONS:
        assert sum(row.cost_pico for row in await spent.usage((dimension,))) == 6120


async def test_usage_of_one_tenant_and_of_a_span_of_time(spent):
    (row,) = await spent.usage(span=Span(tenant="zeta"))
    assert (row.group, row.cost_pico) == ({}, 5000)
    soon = datetime.now(UTC) + timedelta(minutes=1)
    assert await spent.usage(("tenant",), span=Span(since=soon)) == []
    assert len(await spent.usage(("tenant",), span=Span(before=soon))) == 2


async def test_the_lines_to_hold_against_a_providers_books(spent):
    lines = await spent.attempt_lines()
    assert [(line.tenant, line.state, line.input_tokens, line.cost_pico) for line in lines] == [
        ("acme", "settled", 10, 120),
        ("acme", "uncertain", 0, 1000),
        ("zeta", "settled", 7, 5000),
    ]


async def test_the_ledger_in_one_look(spent):
    run = run_with()
    await spent.finish(run, final_of(run))
    assert await spent.books() == Totals(
        attempts={"in_flight": 1, "settled": 2, "uncertain": 1},
        jobs={"open": 4, "succeeded": 2},
        hits=1,
        cost_pico=6120,
        saved_pico=501,
        over_reserved=0,
    )


async def test_an_empty_ledger_has_spent_nothing(ledger):
    assert await ledger.usage(("tenant",)) == []
    (whole,) = await ledger.usage()
    assert (whole.attempts, whole.cost_pico) == (0, 0)


async def test_small_costs_add_up_exactly(ledger, sql):
    """A float would already be wrong after ten of these."""
    for pico in (100_000_000_001, 1, 3_333_333_333_333, 10**15 + 1):
        attempt = await journalled(ledger, worst_pico=10**18)
        await ledger.settle(attempt, Settlement("settled", pico, model="s"))
    assert sum(row.cost_usd for row in sql.events()) == Decimal("1003.433333333336")
    assert (await ledger.usage())[0].cost_pico == 1_003_433_333_333_336


@given(st.integers(min_value=0, max_value=4 * 10**18))
def test_sqlite_reads_every_amount_back_to_the_last_pico(pico):
    engine = create_engine("sqlite://")
    amount = literal(to_usd(pico), Usd)
    with engine.connect() as connection:
        row = connection.execute(select(amount.label("usd"), as_pico(amount).label("pico"))).one()
    engine.dispose()
    assert (row.usd, row.pico) == (to_usd(pico), pico)
