"""Which windows limit a tenant, and what a refusal says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from worker.budget.rules import MOST_PICO, Spender, WindowLimit, refusal, windows
from worker.routing_file import Budget, Provider, Tenant, Tier

USD = 10**12
WINDOW = WindowLimit("t:acme:d:2026-11-23", USD, "2026-11-23", datetime(2026, 11, 24, 5, tzinfo=UTC))


def tenant(budget_usd: str | None = "0.50", zone: str = "UTC") -> Tenant:
    return Tenant("acme", Tier("free", daily_budget_usd=budget_usd and Decimal(budget_usd)), zone)


def test_a_tenant_without_a_budget_has_no_window():
    assert windows(tenant(None), datetime.now(UTC)) == ()


def test_a_budget_of_nothing_is_a_window_all_the_same():
    assert windows(tenant("0"), datetime.now(UTC))[0].limit_pico == 0


@pytest.mark.parametrize(
    ("zone", "at", "date", "resets_at"),
    [
        ("UTC", "2026-11-23T23:59:59+00:00", "2026-11-23", "2026-11-24T00:00:00+00:00"),
        ("Asia/Kolkata", "2026-11-23T18:30:00+00:00", "2026-11-24", "2026-11-24T18:30:00+00:00"),
        ("America/New_York", "2026-11-23T04:59:59+00:00", "2026-11-22", "2026-11-23T05:00:00+00:00"),
        ("Europe/Berlin", "2026-10-25T00:30:00+00:00", "2026-10-25", "2026-10-25T23:00:00+00:00"),  # 25 hours
        ("Pacific/Auckland", "2026-04-04T12:30:00+00:00", "2026-04-05", "2026-04-05T12:00:00+00:00"),
    ],
)
def test_a_window_is_named_by_its_date_in_the_tenants_zone(zone, at, date, resets_at):
    (window,) = windows(tenant(zone=zone), datetime.fromisoformat(at))
    assert (window.name, window.date) == (f"t:acme:d:{date}", date)
    assert window.resets_at == datetime.fromisoformat(resets_at)
    assert window.resets_at.tzinfo is UTC
    assert window.limit_pico == USD // 2


def test_a_limit_beyond_what_redis_can_count_is_taken_as_what_it_can():
    assert windows(tenant("1e9"), datetime.now(UTC))[0].limit_pico == MOST_PICO


def test_a_spent_window_names_when_it_resets():
    error = refusal("acme", WINDOW, settled_pico=995 * USD // 1000, held_pico=0, amount_pico=USD // 100)
    assert (error.code, error.status, error.reason) == ("budget_exceeded", 429, "window_spent")
    assert (error.retryable, error.resets_at, error.retry_after_s) == (False, WINDOW.resets_at, None)
    assert error.message == (
        "acme has spent $0.995 of its $1.00 for 2026-11-23, and this call may cost up to $0.01: "
        "submit it again after 2026-11-24T05:00:00+00:00, or raise daily_budget_usd"
    )


def test_a_window_that_calls_under_way_fill_is_worth_coming_back_to():
    error = refusal("acme", WINDOW, settled_pico=USD // 2, held_pico=USD // 2, amount_pico=1)
    assert error.reason == "in_flight"
    assert (error.retryable, error.resets_at, error.retry_after_s) == (True, None, 5.0)
    assert error.message == (
        "acme has spent $0.50 of its $1.00 for 2026-11-23, its calls and batches under way hold $0.50, and this "
        "call may cost up to $0.000000000001: submit it again in a few seconds, when they have settled"
    )


def test_a_call_dearer_than_the_whole_budget_never_fits():
    error = refusal("acme", WINDOW, settled_pico=0, held_pico=0, amount_pico=3 * USD)
    assert (error.reason, error.retryable, error.resets_at) == ("never_fits", False, None)
    assert error.message == (
        "this call may cost up to $3.00, more than acme's whole budget of $1.00 a day: "
        "lower max_output_tokens, shorten the input, or raise daily_budget_usd"
    )


def names(tenant: Tenant, at: str, **spender: object) -> list[str]:
    return [window.name for window in windows(tenant, datetime.fromisoformat(at), Spender(**spender))]


def test_every_window_that_applies_is_drawn_on_the_narrowest_first():
    tier = Tier(
        "pro",
        daily_budget_usd=Decimal(5),
        monthly_budget_usd=Decimal(50),
        run_budget_usd=Decimal(1),
        features={"rag": Budget(Decimal(2), Decimal(20))},
    )
    found = names(
        Tenant("acme", tier, "Asia/Tokyo"),
        "2026-11-30T18:00:00+00:00",
        feature="rag",
        runs=("child", "parent"),
        provider=Provider("openai", "openai", "", budget=Budget(Decimal(100))),
        fleet=Budget(None, Decimal(1000)),
    )
    assert found == [
        "r:acme:child",
        "r:acme:parent",
        "f:acme:rag:d:2026-12-01",
        "f:acme:rag:m:2026-12",
        "t:acme:d:2026-12-01",
        "t:acme:m:2026-12",
        "p:openai:d:2026-11-30",
        "fleet:m:2026-11",
    ]


def test_another_feature_and_a_job_without_a_run_draw_on_less():
    tier = Tier("pro", run_budget_usd=Decimal(1), features={"rag": Budget(Decimal(2))})
    assert names(Tenant("acme", tier), "2026-11-30T18:00:00+00:00", feature="chat") == []


def test_names_from_outside_are_quoted_so_that_none_is_anothers():
    tier = Tier("pro", run_budget_usd=Decimal(1))
    (name,) = names(Tenant("acme", tier), "2026-11-30T18:00:00+00:00", runs=("a\nt:b:d:2026-11-30 é",))
    assert name == "r:acme:a%0At%3Ab%3Ad%3A2026-11-30%20%C3%A9"


@pytest.mark.parametrize(
    ("zone", "at", "month", "resets_at"),
    [
        ("UTC", "2026-12-31T23:59:59+00:00", "2026-12", "2027-01-01T00:00:00+00:00"),
        ("UTC", "2028-02-29T12:00:00+00:00", "2028-02", "2028-03-01T00:00:00+00:00"),
        ("Europe/Berlin", "2026-10-31T23:30:00+00:00", "2026-11", "2026-11-30T23:00:00+00:00"),
        ("Europe/Berlin", "2026-03-31T21:59:00+00:00", "2026-03", "2026-03-31T22:00:00+00:00"),
    ],
)
def test_a_month_is_the_tenants_own(zone, at, month, resets_at):
    tier = Tier("pro", monthly_budget_usd=Decimal(5))
    (window,) = windows(Tenant("acme", tier, zone), datetime.fromisoformat(at))
    assert (window.name, window.resets_at) == (f"t:acme:m:{month}", datetime.fromisoformat(resets_at))


def test_a_run_that_has_spent_its_budget_names_no_time_to_come_back():
    tier = Tier("pro", run_budget_usd=Decimal(1))
    (window,) = windows(Tenant("acme", tier), datetime.now(UTC), Spender(runs=("r1",)))
    error = refusal("acme", window, settled_pico=USD, held_pico=0, amount_pico=USD // 100)
    assert (error.reason, error.resets_at) == ("window_spent", None)
    assert error.message == (
        "the run of acme has spent $1.00 of its $1.00, and this call may cost up to $0.01: raise run_budget_usd"
    )


@pytest.mark.parametrize("spent", [0, USD // 2, USD])
def test_a_window_of_everybodys_tells_no_tenant_what_others_have_spent(spent):
    fleet = Budget(Decimal(1), None)
    (window,) = windows(tenant(None), datetime.now(UTC), Spender(fleet=fleet))
    for amount in (USD // 2 + 1, 2 * USD):
        error = refusal("acme", window, settled_pico=spent, held_pico=USD - spent, amount_pico=amount)
        assert "$" not in error.message
        assert "the fleet" in error.message
