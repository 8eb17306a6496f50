"""Which windows limit a tenant's attempt, and what a refusal by one of them means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from producer_sdk.contract import BUDGET_REASONS, ErrorCode, JobError, to_pico, to_usd
from worker.routing_file import Tenant

Reason = Literal["window_spent", "in_flight", "never_fits"]
IN_FLIGHT_RETRY_S = 5.0
# Sums of two such amounts are exact in Redis' 64 bits; as a limit it is four million dollars.
MOST_PICO = 4 * 10**18


@dataclass(frozen=True)
class WindowLimit:
    """A window's name and limit; `date` is the tenant's, `resets_at` the next midnight in the tenant's zone."""

    name: str
    limit_pico: int
    date: str
    resets_at: datetime


def windows(tenant: Tenant, at: datetime) -> tuple[WindowLimit, ...]:
    """The windows that an attempt made `at` draws on: none for a tenant without a budget.

    A window is named by its date in the tenant's zone, so no job ever resets one.
    """
    budget_usd = tenant.tier.daily_budget_usd
    if budget_usd is None:
        return ()
    zone = ZoneInfo(tenant.zone)
    date = at.astimezone(zone).date()
    midnight = datetime.combine(date + timedelta(days=1), time(), zone)
    name = f"t:{tenant.name}:d:{date.isoformat()}"
    limit = min(to_pico(budget_usd), MOST_PICO)
    return (WindowLimit(name, limit, date.isoformat(), midnight.astimezone(UTC)),)


def reason(window: WindowLimit, *, settled_pico: int, amount_pico: int) -> Reason:
    """Why a window refused this amount: for ever, until it resets, or until calls under way have settled."""
    if amount_pico > window.limit_pico:
        return "never_fits"
    if settled_pico + amount_pico > window.limit_pico:
        return "window_spent"
    return "in_flight"


def refusal(
    tenant: str, window: WindowLimit, *, settled_pico: int, held_pico: int, amount_pico: int
) -> JobError:
    """The error of a refused attempt: its reason, when to come back, and a sentence that says what to do."""
    why = reason(window, settled_pico=settled_pico, amount_pico=amount_pico)
    limit, amount = _dollars(window.limit_pico), _dollars(amount_pico)
    spent = f"{tenant} has spent {_dollars(settled_pico)} of its {limit} for {window.date}"
    sentences: dict[Reason, str] = {
        "never_fits": f"this call may cost up to {amount}, more than {tenant}'s whole budget of {limit} a day: "
        "lower max_output_tokens, shorten the input, or raise daily_budget_usd",
        "window_spent": f"{spent}, and this call may cost up to {amount}: submit it again after "
        f"{window.resets_at.isoformat()}, or raise daily_budget_usd",
        "in_flight": f"{spent}, its calls under way hold {_dollars(held_pico)}, and this call may cost up to "
        f"{amount}: submit it again in a few seconds, when they have settled",
    }
    return JobError.of(
        ErrorCode.BUDGET_EXCEEDED,
        sentences[why],
        reason=why,
        retryable=BUDGET_REASONS[why],
        retry_after_s=IN_FLIGHT_RETRY_S if why == "in_flight" else None,
        resets_at=window.resets_at if why == "window_spent" else None,
    )


def _dollars(pico: int) -> str:
    whole, _, cents = f"{to_usd(pico).normalize():f}".partition(".")
    return f"${whole}.{cents:0<2}"
