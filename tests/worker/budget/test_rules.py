"""Which windows limit a tenant, and what a refusal says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from worker.budget.rules import MOST_PICO, WindowLimit, refusal, windows
from worker.routing_file import Tenant, Tier

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
        "acme has spent $0.50 of its $1.00 for 2026-11-23, its calls under way hold $0.50, and this call may "
        "cost up to $0.000000000001: submit it again in a few seconds, when they have settled"
    )


def test_a_call_dearer_than_the_whole_budget_never_fits():
    error = refusal("acme", WINDOW, settled_pico=0, held_pico=0, amount_pico=3 * USD)
    assert (error.reason, error.retryable, error.resets_at) == ("never_fits", False, None)
    assert error.message == (
        "this call may cost up to $3.00, more than acme's whole budget of $1.00 a day: "
        "lower max_output_tokens, shorten the input, or raise daily_budget_usd"
    )
