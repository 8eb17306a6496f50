"""Which windows limit a tenant's attempt, and what a refusal by one of them means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from producer_sdk.contract import BUDGET_REASONS, ErrorCode, JobError, to_pico, to_usd, usd_text
from worker.routing_file import NO_BUDGET, Budget, Provider, Tenant

Reason = Literal["window_spent", "in_flight", "never_fits"]
IN_FLIGHT_RETRY_S = 5.0
# Sums of two such amounts are exact in Redis' 64 bits; as a limit it is four million dollars.
MOST_PICO = 4 * 10**18


@dataclass(frozen=True)
class WindowLimit:
    """A window's name and limit; `date` is its day, or its month, or '' for a run, which never resets.

    `whose` names it in words where it is not simply the tenant's; `setting` is the key of routing.yaml that sets the
    limit; `is_shared`: other tenants spend there too, so that its amounts are told to none of them. `soft_limit`: the
    percentages of the limit at which an operator is told, the highest last.
    """

    name: str
    limit_pico: int
    date: str
    resets_at: datetime | None
    whose: str = ""
    setting: str = "daily_budget_usd"
    is_shared: bool = False
    soft_limit: tuple[int, ...] = ()

    @property
    def scope(self) -> str:
        """What all its windows, yesterday's and tomorrow's, have in common: its name without the date."""
        return scope_of(self.name)


@dataclass(frozen=True)
class Spender:
    """For what an attempt spends, beside its tenant: its feature, its run and that run's parents, its provider."""

    feature: str | None = None
    runs: tuple[str, ...] = ()
    provider: Provider | None = None
    fleet: Budget = NO_BUDGET


NOBODY = Spender()


def windows(tenant: Tenant, at: datetime, spender: Spender = NOBODY) -> tuple[WindowLimit, ...]:
    """The windows that an attempt made `at` draws on, the narrowest first; none where nothing is limited.

    A window is named by its date, in the tenant's zone (a provider's and the fleet's: in UTC), so no job ever resets
    one. What came from outside is quoted in its name.
    """
    tier, local, found = tenant.tier, at.astimezone(ZoneInfo(tenant.zone)), []
    if spender.runs and tier.run_budget_usd is not None:
        for run in dict.fromkeys(spender.runs):
            name, whose = f"r:{tenant.name}:{quote(run, safe='')}", f"the run of {tenant.name}"
            limit = _limit(tier.run_budget_usd)
            found.append(
                WindowLimit(name, limit, "", None, whose, "run_budget_usd", soft_limit=tier.soft_limit)
            )
    if spender.feature is not None and spender.feature in tier.features:
        root = f"f:{tenant.name}:{quote(spender.feature, safe='')}"
        found += _of(tier.features[spender.feature], root, local, whose=f"the feature of {tenant.name}")
    own = Budget(tier.daily_budget_usd, tier.monthly_budget_usd, tier.soft_limit)
    found += _of(own, f"t:{tenant.name}", local)
    utc = at.astimezone(UTC)
    if spender.provider is not None:
        name = spender.provider.name
        shared = _of(spender.provider.budget, f"p:{name}", utc, whose=f"the provider {name}", is_shared=True)
        found += shared
    found += _of(spender.fleet, "fleet", utc, whose="the fleet", is_shared=True)
    return tuple(found)


def charged(windows: Sequence[WindowLimit], covered: Sequence[str]) -> tuple[str, ...]:
    """What an attempt is charged to: its own windows, but its batch's where the batch covers a scope."""
    scopes = {scope_of(name) for name in covered}
    return tuple(window.name for window in windows if window.scope not in scopes) + tuple(covered)


def scope_of(name: str) -> str:
    """What all windows of one kind have in common: a name without its date. A run's window has none."""
    return name if name.startswith("r:") else name.rpartition(":")[0]


def _of(
    budget: Budget, root: str, at: datetime, *, whose: str = "", is_shared: bool = False
) -> list[WindowLimit]:
    """The day's and the month's window, where they are limited; `at` is in the zone in which they begin."""
    day, month = at.date(), f"{at:%Y-%m}"
    following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    spans = (
        ("d", day.isoformat(), budget.daily_usd, day + timedelta(days=1), "daily_budget_usd"),
        ("m", month, budget.monthly_usd, following, "monthly_budget_usd"),
    )
    return [
        WindowLimit(
            name=f"{root}:{kind}:{named}",
            limit_pico=_limit(usd),
            date=named,
            resets_at=_midnight(resets, at),
            whose=whose,
            setting=setting,
            is_shared=is_shared,
            soft_limit=budget.soft_limit,
        )
        for kind, named, usd, resets, setting in spans
        if usd is not None
    ]


def _limit(usd: Decimal) -> int:
    return min(to_pico(usd), MOST_PICO)


def _midnight(day: date, at: datetime) -> datetime:
    return datetime.combine(day, time(), at.tzinfo).astimezone(UTC)


def reason(window: WindowLimit, *, settled_pico: int, amount_pico: int) -> Reason:
    """Why a window refused this amount: for ever, until it resets, or until calls under way have settled."""
    if amount_pico > window.limit_pico:
        return "never_fits"
    if settled_pico + amount_pico > window.limit_pico:
        return "window_spent"
    return "in_flight"


def refused(
    window: WindowLimit, *, settled_pico: int, held_pico: int, amount_pico: int
) -> dict[str, JsonValue]:
    """What the job's story says of a refusal: of a window that others share, no amounts of theirs."""
    told: dict[str, JsonValue] = {"window": window.name, "worst_usd": f"{to_usd(amount_pico):f}"}
    if window.is_shared:
        return told
    amounts = {"limit_usd": window.limit_pico, "spent_usd": settled_pico, "held_usd": held_pico}
    return told | {name: f"{to_usd(pico):f}" for name, pico in amounts.items()}


def refusal(
    tenant: str, window: WindowLimit, *, settled_pico: int, held_pico: int, amount_pico: int
) -> JobError:
    """The error of a refused attempt: its reason, when to come back, and a sentence that says what to do."""
    why = reason(window, settled_pico=settled_pico, amount_pico=amount_pico)
    sentences = _shared_sentences(window) if window.is_shared else None
    sentences = sentences or _sentences(window, window.whose or tenant, settled_pico, held_pico, amount_pico)
    return JobError.of(
        ErrorCode.BUDGET_EXCEEDED,
        sentences[why],
        reason=why,
        retryable=BUDGET_REASONS[why],
        retry_after_s=IN_FLIGHT_RETRY_S if why == "in_flight" else None,
        resets_at=window.resets_at if why == "window_spent" else None,
    )


def batch_refusal(
    tenant: str, window: WindowLimit, *, settled_pico: int, held_pico: int, amount_pico: int
) -> JobError:
    """The error of a refused batch: how much is missing, and until when."""
    why = reason(window, settled_pico=settled_pico, amount_pico=amount_pico)
    missing = settled_pico + held_pico + amount_pico - window.limit_pico
    advice = {
        "never_fits": "make it smaller, lower max_output_tokens, or raise the limit",
        "window_spent": "make it smaller"
        + (f", submit it after {window.resets_at.isoformat()}" if window.resets_at else "")
        + ", or raise the limit",
        "in_flight": "submit it again when the calls and batches under way have settled, or make it smaller",
    }[why]
    span = f" for {window.date}" if window.date else ""
    sentence = (
        f"the batch may cost more than is left of the operator's {window.setting} of {window.whose}: {advice}"
        if window.is_shared
        else f"the batch may cost up to {_dollars(amount_pico)}, and {_dollars(missing)} are missing of the "
        f"{_dollars(window.limit_pico)} that {window.whose or tenant} may spend{span}: {advice}"
    )
    return JobError.of(
        ErrorCode.BUDGET_EXCEEDED,
        sentence,
        reason=why,
        retryable=BUDGET_REASONS[why],
        retry_after_s=IN_FLIGHT_RETRY_S if why == "in_flight" else None,
        resets_at=window.resets_at if why == "window_spent" else None,
    )


def _sentences(
    window: WindowLimit, whose: str, settled_pico: int, held_pico: int, amount_pico: int
) -> dict[Reason, str]:
    limit, amount = _dollars(window.limit_pico), _dollars(amount_pico)
    span = {0: "", len("2026-01"): " a month", len("2026-01-01"): " a day"}[len(window.date)]
    spent = f"{whose} has spent {_dollars(settled_pico)} of its {limit}" + (
        f" for {window.date}" if window.date else ""
    )
    again = f"submit it again after {window.resets_at.isoformat()}, or " if window.resets_at else ""
    return {
        "never_fits": f"this call may cost up to {amount}, more than {whose}'s whole budget of {limit}{span}: "
        f"lower max_output_tokens, shorten the input, or raise {window.setting}",
        "window_spent": f"{spent}, and this call may cost up to {amount}: {again}raise {window.setting}",
        "in_flight": f"{spent}, its calls and batches under way hold {_dollars(held_pico)}, and this call may cost "
        f"up to {amount}: submit it again in a few seconds, when they have settled",
    }


def _shared_sentences(window: WindowLimit) -> dict[Reason, str]:
    """What all tenants together have spent is nobody's business but the operator's."""
    cap = f"the operator's {window.setting} of {window.whose}"
    again = (
        f"submit it again after {window.resets_at.isoformat()}" if window.resets_at else "ask the operator"
    )
    return {
        "never_fits": f"this call may cost more than {cap}: lower max_output_tokens or shorten the input",
        "window_spent": f"{cap} is spent: {again}",
        "in_flight": f"calls and batches under way hold what is left of {cap}: submit it again in a few seconds",
    }


def _dollars(pico: int) -> str:
    whole, _, cents = usd_text(pico).partition(".")
    return f"${whole}.{cents:0<2}"
