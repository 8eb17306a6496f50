"""Flattens the prices that genai-prices knows; run in a process of its own (`python -m worker.budget.flatten`).

Importing genai-prices takes half a second and 65 MB, which a worker need not carry. Standard input: a JSON list of
[name, provider, base_url, model, context_tokens]. Standard output: a JSON object by name, each either
{"input": …, "output": …, "cache_read": …, "cache_write": …, "cache_write_1h": …, "dearest": bool} in USD per million
tokens as decimal strings (null: not priced apart), or {"missing": reason}.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from genai_prices import types
from genai_prices.data_snapshot import DataSnapshot, get_snapshot

FIELDS = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


def flattened(asked: Iterable[tuple[str, str, str, str, int]], now: datetime) -> dict[str, dict[str, Any]]:
    """What each deployment costs per token at most within a day from `now`."""
    snapshot = get_snapshot()
    return {
        name: _priced(_find_model(snapshot, provider, base_url, model), context_tokens, now)
        for name, provider, base_url, model, context_tokens in asked
    }


def _find_model(
    snapshot: DataSnapshot, provider: str, base_url: str, model: str
) -> tuple[types.Provider, types.ModelInfo] | None:
    """By the provider's own name or its API's address: a name that only resembles one would be a guess."""
    named = [known for known in snapshot.providers if known.id == provider]
    addressed = [known for known in snapshot.providers if base_url and re.match(known.api_pattern, base_url)]
    for known in (named + addressed)[:1]:
        found = known.find_model(model.lower(), all_providers=snapshot.providers)
        return (known, found) if found else None
    return None


def _priced(
    found: tuple[types.Provider, types.ModelInfo] | None, context_tokens: int, now: datetime
) -> dict[str, Any]:
    if found is None:
        return {"missing": "no price"}
    prices = _prices_of_a_day(found[1], now)
    if any(price.requests_kcount for price in prices):
        return {"missing": "no price: it is charged by the request, not only by the token"}
    priced: dict[str, Any] = {
        field: _dearest([getattr(price, f"{field}_mtok") for price in prices], context_tokens)
        for field in FIELDS
    }
    if priced["input"] is None or priced["output"] is None:
        return {"missing": "no price"}
    steps = [getattr(price, f"{field}_mtok") for price in prices for field in FIELDS]
    is_dearest = len(prices) > 1 or any(_reached(step, context_tokens) for step in steps)
    return {**priced, "dearest": is_dearest}


def _prices_of_a_day(model: types.ModelInfo, now: datetime) -> list[types.ModelPrice]:
    """Every price that is in force at some minute of the next day; some providers charge by the hour."""
    if isinstance(model.prices, types.ModelPrice):
        return [model.prices]
    different: list[types.ModelPrice] = []
    for minute in range(24 * 60):
        price = model.get_prices(now + timedelta(minutes=minute))
        if price not in different:
            different.append(price)
    return different


def _dearest(prices: Sequence[Decimal | types.TieredPrices | None], context_tokens: int) -> str | None:
    """None where one of the prices leaves it out: it costs then what plain input costs."""
    amounts = [
        amount
        for price in prices
        if price is not None
        for amount in (_lowest_step(price), *_reached(price, context_tokens))
    ]
    return None if None in prices else str(max(amounts))


def _lowest_step(price: Decimal | types.TieredPrices) -> Decimal:
    return price.base if isinstance(price, types.TieredPrices) else price


def _reached(price: Decimal | types.TieredPrices | None, context_tokens: int) -> list[Decimal]:
    """The dearer steps that an input of this deployment can reach: they begin above `start` input tokens."""
    if not isinstance(price, types.TieredPrices):
        return []
    return [step.price for step in price.tiers if step.start < context_tokens]


def main() -> None:
    """Answer standard input on standard output."""
    asked = [tuple(row) for row in json.load(sys.stdin)]
    json.dump(flattened(asked, datetime.now(UTC)), sys.stdout)


if __name__ == "__main__":
    main()
