"""Flattened cards say what genai-prices' own arithmetic says, to the pico-dollar, whatever the tier, hour and size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import genai_prices
import pytest
from genai_prices import types
from genai_prices.data_snapshot import get_snapshot

from producer_sdk.contract import PICO_PER_USD, Usage
from worker.budget.catalogue import known_card, rate_cards
from worker.budget.flatten import flattened
from worker.providers.gemini_reader import gemini_usage
from worker.rate_card import RateCard
from worker.routing_file import Deployment, Provider
from worker.routing_load import load, packaged_routing

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
GOOGLE = "https://generativelanguage.googleapis.com/v1beta"


def context(tier: str) -> dict[str, str]:
    """The tier as genai-prices wants to be told it."""
    if tier == "default":
        return {}
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


def theirs(counts: dict[str, int], model: str, provider: str, at: datetime, tier: str) -> Any:
    """Their price in pico-dollars."""
    price = genai_prices.calc_price(
        genai_prices.Usage(**counts),
        model,
        provider_id=provider,
        genai_request_timestamp=at,
        price_context=context(tier) or None,
    )
    return price.total_price * PICO_PER_USD


def ours(card: RateCard, counts: dict[str, int], at: datetime, tier: str) -> int:
    """Our price of the same usage."""
    usage = Usage(
        input_tokens=counts["input_tokens"],
        output_tokens=counts["output_tokens"],
        cache_read_tokens=counts["cache_read_tokens"],
        cache_write_tokens=counts["cache_write_tokens"],
        reasoning_tokens=counts["output_reasoning_tokens"],
    )
    long = counts["cache_write_1h_tokens"]
    return card.cost(usage, at=at, service_tier=tier, long_write_tokens=long)


def usages(card: RateCard) -> Iterator[dict[str, int]]:
    """Plain, cached, written for 5 minutes and for an hour, thought about, on both sides of each step."""
    starts = {above for bands in card.tiers.values() for band in bands for above, _rates in band.steps}
    sizes = {10, 1000, *(start + more for start in starts for more in (0, 1))}
    parts = [(0, 0, 0), (5, 0, 0), (0, 5, 0), (0, 5, 5), (3, 7, 4)]
    for size, (read, written, long), (out, thoughts) in itertools.product(
        sorted(sizes), parts, [(0, 0), (64, 0), (64, 64)]
    ):
        share = size // 10
        yield {
            "input_tokens": size,
            "output_tokens": out,
            "cache_read_tokens": read * share,
            "cache_write_tokens": written * share,
            "cache_write_1h_tokens": long * share,
            "output_reasoning_tokens": thoughts,
        }


def times(card: RateCard) -> set[datetime]:
    """Today at noon, and on both sides of each hour at which a price changes."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    changes = {band.second for bands in card.tiers.values() for band in bands if band.second}
    return {midnight + timedelta(hours=12)} | {
        midnight + timedelta(seconds=second + more) for second in changes for more in (-1, 0)
    }


def test_every_card_of_the_shipped_routing_equals_genai_prices_on_a_grid():
    deployments = load(packaged_routing()).deployments()
    cards, missing = rate_cards(deployments)
    assert missing == {}
    priced = {name: card for name, card in cards.items() if card.source.startswith("genai-prices")}
    assert len(priced) == len([d for d in deployments.values() if d.price is None]) >= 8
    compared = 0
    for name, card in priced.items():
        model, provider = deployments[name].model, deployments[name].provider.name
        provider = "google" if provider == "gemini" else provider  # found by its address
        for tier, at, counts in itertools.product(card.tiers, times(card), usages(card)):
            expected = theirs(counts, model, provider, at, tier)
            assert ours(card, counts, at, tier) == expected, (name, tier, at, counts)
            compared += 1
    assert compared > 1500


def test_the_shipped_models_have_every_tier_step_and_hour_that_genai_prices_knows():
    cards, _ = rate_cards(load(packaged_routing()).deployments())
    assert set(cards["openai/gpt-6-luna"].tiers) == {"default", "flex", "priority", "fast", "batch"}
    assert set(cards["anthropic/claude-haiku-5-5"].tiers) == {"default", "batch"}
    assert set(cards["deepseek/deepseek-v4-pro"].tiers) == {"default"}
    assert set(cards["gemini/gemini-4-argon"].tiers) == {"default", "batch"}
    [luna] = cards["openai/gpt-6-luna"].tiers["flex"]
    assert [above for above, _rates in luna.steps] == [0, 272_000]
    hours = [band.second // 3600 for band in cards["deepseek/deepseek-v4-pro"].tiers["default"]]
    assert hours == [0, 1, 4, 6, 10]
    assert cards["anthropic/claude-sonnet-5-5"].has_long_writes


def test_every_model_that_genai_prices_knows_costs_the_same_or_is_refused():
    chance, compared, finer = random.Random(1), 0, 0
    for provider in get_snapshot().providers:
        found = flattened([(m.id, provider.id, "", m.id, "chat") for m in provider.models], NOW)
        for model in provider.models:
            if "missing" in found[model.id] or provider.find_model(model.id) is not model:
                continue
            card = known_card(deployment(provider.id, model.id), found[model.id])
            for tier in card.tiers:
                counts, at = any_usage(chance), NOW + timedelta(minutes=chance.randrange(90 * 24 * 60))
                expected = theirs(counts, model.id, provider.id, at, tier)
                cost = ours(card, counts, at, tier)
                # a rate with a fraction of a pico-dollar per token is rounded up: never charged too low
                assert expected <= cost < expected + counts["input_tokens"] + counts["output_tokens"] + 1
                assert cost == expected or has_finer_rates(model)
                compared, finer = compared + 1, finer + (cost != expected)
    assert compared > 1500
    assert 0 < finer < 100


def deployment(provider: str, model: str) -> Deployment:
    return Deployment(f"{provider}/{model}", Provider(provider, "openai", ""), model, 1000, 1000)


def any_usage(chance: random.Random) -> dict[str, int]:
    total = chance.choice([10, 1000, 100_000, 100_001, 200_000, 200_001, 272_000, 272_001, 900_000])
    written, output = chance.randint(0, total // 3), chance.randint(0, 5000)
    return {
        "input_tokens": total,
        "output_tokens": output,
        "cache_read_tokens": chance.randint(0, total // 2),
        "cache_write_tokens": written,
        "cache_write_1h_tokens": chance.randint(0, written),
        "output_reasoning_tokens": chance.randint(0, output),
    }


def has_finer_rates(model: types.ModelInfo) -> bool:
    prices = (
        [model.prices] if isinstance(model.prices, types.ModelPrice) else [p.prices for p in model.prices]
    )
    amounts = [amount for price in prices for amount in price.__dict__.values() if amount is not None]
    flat = [one.base if isinstance(one, types.TieredPrices) else one for one in amounts]
    return any(amount * 10**6 % 1 for amount in flat)


def test_every_embedding_model_that_genai_prices_knows_costs_the_same():
    compared = set()
    for provider in get_snapshot().providers:
        names = [model.id for model in provider.models if "embed" in model.id.lower()]
        found = flattened([(name, provider.id, "", name, "embedding") for name in names], NOW)
        for name in names:
            assert "missing" not in found[name], (provider.id, name)
            card = known_card(deployment(provider.id, name), found[name])
            for tier, tokens in itertools.product(card.tiers, (1, 1_000, 2_999_999)):
                cost = card.cost(Usage(input_tokens=tokens), at=NOW, service_tier=tier)
                assert cost == theirs({"input_tokens": tokens}, name, provider.id, NOW, tier)
            assert card.highest(input_tokens=1_000, output_tokens=0) >= card.cost(Usage(input_tokens=1_000))
            compared.add(name)
    assert {"text-embedding-3-small", "text-embedding-3-large", "gemini-embedding-001"} <= compared


def test_an_embedding_model_has_no_price_as_a_chat_model():
    [found] = flattened([("d", "openai", "", "text-embedding-3-small", "chat")], NOW).values()
    assert found == {"missing": "no price"}


def test_a_price_that_is_known_to_change_on_a_date_changes_on_that_date():
    [found] = flattened([("d", "google", "", "gemini-4-argon", "chat")], NOW).values()
    card = known_card(deployment("google", "gemini-4-argon"), found)
    counts = dict.fromkeys(any_usage(random.Random()), 0) | {"input_tokens": 1000, "output_tokens": 1000}
    costs = set()
    for at in (datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)):
        cost = ours(card, counts, at, "default")
        assert cost == theirs(counts, "gemini-4-argon", "google", at, "default")
        costs.add(cost)
    assert len(costs) == 2
    usage = Usage(input_tokens=1000, output_tokens=1000)
    assert card.cost(usage, service_tier="default") == max(costs), "no time is told: the dearest"


GEMINI_COUNTS = [
    {
        "promptTokenCount": 9000,
        "cachedContentTokenCount": 6000,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 100,
    },
    {"promptTokenCount": 250_000, "candidatesTokenCount": 7, "toolUsePromptTokenCount": 11},
    {"promptTokenCount": 5},
]


@pytest.mark.parametrize("counts", GEMINI_COUNTS)
@pytest.mark.parametrize("model", ["gemini-4-argon", "gemini-3.1-pro-preview", "gemini-2.5-flash"])
def test_what_gemini_reports_is_charged_as_genai_prices_reads_and_charges_it(
    counts: dict[str, int], model: str
):
    [found] = flattened([("d", "gemini", GOOGLE, model, "chat")], NOW).values()
    usage = gemini_usage(
        {**counts, "totalTokenCount": sum(counts.values()) - counts.get("cachedContentTokenCount", 0)}
    )
    assert usage is not None
    read = genai_prices.extract_usage({"usageMetadata": counts, "modelVersion": model}, provider_id="google")
    price = read.calc_price(genai_request_timestamp=NOW).total_price * PICO_PER_USD
    card = known_card(deployment("gemini", model), found)
    assert card.cost(usage, at=NOW, service_tier="default") == price > 0


def test_a_date_that_has_come_is_the_only_price_left():
    before, after = (
        flattened([("d", "deepseek", "", "deepseek-v4-pro", "chat")], at)["d"]["tiers"]["default"]
        for at in (datetime(2026, 8, 16, tzinfo=UTC), datetime(2026, 8, 17, tzinfo=UTC))
    )
    rise = (date(2026, 8, 17) - date(1970, 1, 1)).days
    assert {since for since, _second, _steps in before} == {0, rise}
    assert {since for since, _second, _steps in after} == {0}


def test_dated_names_of_other_models_are_told_apart():
    found = flattened([("a", "openai", "", "gpt-4o", "chat"), ("b", "openai", "", "gpt-5-mini", "chat")], NOW)
    assert found["a"]["other_models"] == ["gpt-4o-2024-05-13"]
    assert found["b"]["other_models"] == []


def test_a_provider_that_sells_anothers_models_has_the_tiers_of_none():
    azure = next(p for p in get_snapshot().providers if p.id == "azure")
    own = {model.id for model in azure.models}
    name = next(
        m
        for m in ("gpt-6-luna", "gpt-5.5", "gpt-5-nano")
        if m not in own and azure.find_model(m, all_providers=get_snapshot().providers)
    )
    [found] = flattened([("d", "azure", "", name, "chat")], NOW).values()
    assert set(found["tiers"]) == {"default"}
