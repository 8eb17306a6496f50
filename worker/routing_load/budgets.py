"""Budgets in routing.yaml: what may be spent a day and a month, and at which percentages operators are told."""

from __future__ import annotations

from worker.routing_file import Budget
from worker.routing_load.yaml_nodes import Fields

BUDGET_KEYS = ("daily_budget_usd", "monthly_budget_usd", "soft_limit")


def budget_of(fields: Fields) -> Budget:
    """The limits of a day and a month, and when operators are told."""
    soft_limit = soft_limit_of(fields) or ()
    return Budget(fields.amount("daily_budget_usd"), fields.amount("monthly_budget_usd"), soft_limit)


def soft_limit_of(fields: Fields) -> tuple[int, ...] | None:
    """Percentages of a limit, the highest last; one may stand alone."""
    place = fields.entries.get("soft_limit")
    if place is None:
        return None
    items = [place] if place.is_scalar() else place.items()
    return tuple(sorted({item.whole(low=1, high=100) for item in items}))
