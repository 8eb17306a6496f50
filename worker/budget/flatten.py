"""Flattens the prices that genai-prices knows; run in a process of its own (`python -m worker.budget.flatten`).

Importing genai-prices takes half a second and 65 MB, which a worker need not carry. Standard input: a JSON list of
[name, provider, base_url, model, kind]. Standard output: a JSON object by name, each either {"missing": reason} or
{"tiers": {tier: [[since_day, second, [[above, rates], …]], …]}, "other_models": [name, …]}, where rates are USD per
million tokens as decimal strings by field (null: not priced apart), as worker.rate_card has them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from genai_prices import types
from genai_prices.data_snapshot import DataSnapshot, get_snapshot

from worker.rate_card import BATCH_TIER, DAY_S, DEFAULT_TIER, is_dated_name

FIELDS = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "output_reasoning")
# Prices of what no call of the fleet asks for: searches by the provider, sound, films, files, drawn images.
NEVER_ASKED_FOR = re.compile(r".*(?:_searches|audio|video|document|output_image).*")
NEVER_EMBEDDED = re.compile(r"(?:input_(?:audio|image|video)|output).*")  # only texts are made into vectors
EMBEDDING = "embedding"


@dataclass(frozen=True)
class _Found:
    """A model, and the contexts in which its provider prices it apart, by the tier's name."""

    model: types.ModelInfo
    contexts: Mapping[str, dict[str, str]]
    other_models: tuple[str, ...]


def flattened(asked: Iterable[tuple[str, str, str, str, str]], now: datetime) -> dict[str, dict[str, Any]]:
    """What each deployment costs per token from `now` on, the dates included that are known already."""
    snapshot = get_snapshot()
    return {
        name: _priced(_find(snapshot, provider, base_url, model), now, kind)
        for name, provider, base_url, model, kind in asked
    }


def _find(snapshot: DataSnapshot, provider: str, base_url: str, model: str) -> _Found | None:
    """By the provider's own name or its API's address: a name that only resembles one would be a guess."""
    named = [known for known in snapshot.providers if known.id == provider]
    addressed = [known for known in snapshot.providers if base_url and re.match(known.api_pattern, base_url)]
    for known in (named + addressed)[:1]:
        found = known.find_model(model, all_providers=snapshot.providers)
        if found is None:
            return None
        # genai-prices knows a provider's tiers for the models that it lists under that provider
        is_own = any(found is one for one in known.models)
        contexts = _contexts(found) if is_own else {DEFAULT_TIER: {}}
        return _Found(found, contexts, tuple(_other_models(known, found, model)))
    return None


def _contexts(model: types.ModelInfo) -> dict[str, dict[str, str]]:
    """What genai-prices wants to be told for each tier; a key that it does not know would give the standard price."""
    contexts: dict[str, dict[str, str]] = {DEFAULT_TIER: {}}
    for variant in model.price_variants or ():
        if set(variant.when) == {"service_tier"}:
            contexts.setdefault(variant.when["service_tier"], variant.when)
        elif variant.when == {"processing": "batch"}:
            contexts[BATCH_TIER] = variant.when
    return contexts


def _other_models(provider: types.Provider, model: types.ModelInfo, asked: str) -> Iterator[str]:
    """Dated names of other models that begin like the one asked for, as gpt-4o-2024-05-13 beside gpt-4o."""
    for known in provider.models:
        for name in _names(known.match):
            if is_dated_name(name, asked) and provider.find_model(name) is not model:
                yield name.lower()


def _names(clause: types.MatchLogic) -> Iterator[str]:
    if isinstance(clause, types.ClauseEquals):
        yield clause.equals
    elif isinstance(clause, types.ClauseOr):
        for one in clause.or_:
            yield from _names(one)


def _priced(found: _Found | None, now: datetime, kind: str) -> dict[str, Any]:
    if found is None:
        return {"missing": "no price"}
    dates, seconds = _dates(found.model, now), _seconds(found.model)
    tiers: dict[str, list[Any]] = {}
    for tier, context in found.contexts.items():
        bands: list[list[Any]] = []
        for day in dates:
            for second in seconds:
                at = datetime.combine(day, time(), UTC) + timedelta(seconds=second)
                price = found.model.get_prices(at, context)
                why = _unusable(price, kind)
                if why:
                    return {"missing": why}
                since_day = 0 if day == dates[0] else (day - date(1970, 1, 1)).days
                bands.append([since_day, second, _steps(price)])
        tiers[tier] = _without_repeats(bands)
    return {"tiers": tiers, "other_models": sorted(set(found.other_models))}


def _constraints(model: types.ModelInfo) -> Iterator[object]:
    if not isinstance(model.prices, types.ModelPrice):
        yield from (one.constraint for one in model.prices)
    yield from (variant.constraint for variant in model.price_variants or ())


def _dates(model: types.ModelInfo, now: datetime) -> list[date]:
    """Today, and each later date on which a price is known to change."""
    starts = {c.start_date for c in _constraints(model) if isinstance(c, types.StartDateConstraint)}
    return [now.date(), *sorted(start for start in starts if start > now.date())]


def _seconds(model: types.ModelInfo) -> list[int]:
    """Midnight, and each second of the day at which a price may change."""
    daily = [c for c in _constraints(model) if isinstance(c, types.TimeOfDateConstraint)]
    return sorted({0, *(_second(at) for one in daily for at in (one.start_time, one.end_time))})


def _second(at: time) -> int:
    """The UTC second of the day; a time without a zone is UTC."""
    moment = datetime.combine(date(1970, 1, 2), at if at.tzinfo else at.replace(tzinfo=UTC))
    return int(moment.timestamp()) % DAY_S


def _unusable(price: types.ModelPrice, kind: str) -> str | None:
    """Why a call cannot be priced by its tokens alone: those of its input where it makes vectors."""
    stated = {key for key, amount in price.__dict__.items() if amount is not None}
    needed = {"input_mtok"} if kind == EMBEDDING else {"input_mtok", "output_mtok"}
    if kind == EMBEDDING:
        stated = {key for key in stated if not NEVER_EMBEDDED.fullmatch(key)}
    if not needed <= stated:
        return "no price"
    known = {f"{name}_mtok" for name in FIELDS}
    others = sorted(key for key in stated - known if not NEVER_ASKED_FOR.fullmatch(key))
    if others:
        return f"no price: it is charged by {' and '.join(others)} too, not only by the token"
    if any(not _at_size(getattr(price, key), 0) for key in needed):
        return "no price: genai-prices has it at 0; if it is free, write so in routing.yaml"
    return None


def _steps(price: types.ModelPrice) -> list[list[Any]]:
    """The whole request costs the dearer price once its input is above a step, field by field."""
    amounts = {name: getattr(price, f"{name}_mtok") for name in FIELDS}
    starts = {
        tier.start for one in amounts.values() if isinstance(one, types.TieredPrices) for tier in one.tiers
    }
    return [
        [above, {name: _text(_at_size(amount, above + 1)) for name, amount in amounts.items()}]
        for above in sorted({0, *starts})
    ]


def _at_size(amount: Decimal | types.TieredPrices | None, input_tokens: int) -> Decimal | None:
    if not isinstance(amount, types.TieredPrices):
        return amount
    reached = [tier.price for tier in amount.tiers if input_tokens > tier.start]
    return reached[-1] if reached else amount.base


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _without_repeats(bands: list[list[Any]]) -> list[list[Any]]:
    """A band that only goes on with the one before it is left out, but never a date's first while it has others."""
    days: dict[int, list[list[Any]]] = {}
    for since_day, second, steps in bands:
        day = days.setdefault(since_day, [])
        if not day or day[-1][2] != steps:
            day.append([since_day, second, steps])
    kept: list[list[Any]] = []
    before: list[Any] = []
    for day in days.values():
        told = [[second, steps] for _since, second, steps in day]
        kept += day if told != before else []
        before = told
    return kept


def main() -> None:
    """Answer standard input on standard output."""
    asked = [tuple(row) for row in json.load(sys.stdin)]
    json.dump(flattened(asked, datetime.now(UTC)), sys.stdout)


if __name__ == "__main__":
    main()
