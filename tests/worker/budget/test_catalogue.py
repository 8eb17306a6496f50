"""Rate cards come from routing.yaml, else from genai-prices, and nothing unknown is ever free."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from producer_sdk.contract import Usage
from worker.budget.catalogue import rate_cards
from worker.routing_file import Deployment, Price, Provider
from worker.routing_load.prices import FREE

OPENAI = Provider("openai", "openai", "https://api.openai.com/v1")
ANTHROPIC = Provider("anthropic", "anthropic", "https://api.anthropic.com/v1")
DEEPSEEK = Provider("deepseek", "openai", "https://api.deepseek.com/v1")
RESELLER = Provider("n1n", "openai", "https://api.n1n.ai/v1")


def deployment(provider: Provider, model: str, *, price: Price | None = None):
    return Deployment(f"{provider.name}/{model}", provider, model, 190_000, 16_000, price=price)


def named(*deployments: Deployment) -> dict[str, Deployment]:
    return {d.name: d for d in deployments}


def test_a_price_of_the_routing_file_comes_first():
    price = Price(Decimal("0.08"), Decimal("0.40"), cache_read=Decimal("0.008"))
    cards, missing = rate_cards(named(deployment(RESELLER, "gpt-6-luna", price=price)))
    card = cards["n1n/gpt-6-luna"]
    assert (missing, card.source, card.model) == ({}, "routing.yaml", "gpt-6-luna")
    assert card.base.numbers()[:4] == [80_000, 400_000, 8_000, 80_000]
    assert card.base.derived == ("cache_write", "reasoning")
    with pytest.raises(KeyError):
        card.cost(Usage(input_tokens=1), service_tier="batch")


def test_a_price_of_the_routing_file_may_have_tiers_sizes_and_thoughts_of_its_own():
    dear = Price(Decimal(4), Decimal(8))
    batch = Price(Decimal(1), Decimal(2), cache_write_1h=Decimal(3), above={1000: dear})
    price = Price(
        Decimal(2), Decimal(4), reasoning=Decimal(9), above={1000: dear}, service_tiers={"batch": batch}
    )
    cards, _ = rate_cards(named(deployment(RESELLER, "m", price=price)))
    card = cards["n1n/m"]
    usage = Usage(input_tokens=1000, output_tokens=10, reasoning_tokens=4)
    assert card.cost(usage) == 1000 * 2_000_000 + 6 * 4_000_000 + 4 * 9_000_000
    assert card.cost(usage, service_tier="batch") == 1000 * 1_000_000 + 10 * 2_000_000
    above = Usage(input_tokens=1001, output_tokens=10, reasoning_tokens=4)
    for tier in ("default", "batch"):
        assert card.cost(above, service_tier=tier) == 1001 * 4_000_000 + 10 * 8_000_000
    written = Usage(input_tokens=10, cache_write_tokens=10)
    assert card.cost(written, service_tier="batch", long_write_tokens=10) == 10 * 3_000_000


def test_a_deployment_that_asks_for_a_tier_without_a_price_is_left_out_by_name():
    flex = replace(deployment(ANTHROPIC, "claude-haiku-4-5"), service_tier="flex")
    stated = Price(Decimal(2), Decimal(4))
    own = replace(deployment(RESELLER, "m", price=stated), service_tier="flex")
    cards, missing = rate_cards(named(flex, own))
    why = "no price for the service tier flex"
    assert (cards, missing) == ({}, {"anthropic/claude-haiku-4-5": why, "n1n/m": why})


def test_what_asks_for_a_tier_reserves_what_the_default_tier_may_charge_too():
    for tier, dearest in (("flex", "default"), ("priority", "priority"), (None, "default")):
        one = replace(deployment(OPENAI, "gpt-5-mini"), service_tier=tier)
        cards, _ = rate_cards(named(one))
        card, size = cards[one.name], {"input_tokens": 100, "output_tokens": 100}
        assert card.highest(**size) == card.highest(**size, service_tier=dearest)


def test_a_deployment_that_is_free_on_purpose_costs_nothing_whatever_it_answers():
    cards, _ = rate_cards(named(deployment(ANTHROPIC, "own", price=FREE)))
    card = cards["anthropic/own"]
    assert (card.is_free, card.source, card.has_long_writes) == (True, "routing.yaml, free: true", False)
    assert card.cost(Usage(input_tokens=9, output_tokens=9, cache_write_tokens=9)) == 0


def test_an_anthropic_cache_write_costs_its_premium_unless_it_is_priced():
    priced = Price(Decimal(3), Decimal(15), cache_write=Decimal(4))
    plain = Price(Decimal(3), Decimal(15))
    cards, _ = rate_cards(
        named(deployment(ANTHROPIC, "own-a", price=priced), deployment(ANTHROPIC, "own-b", price=plain))
    )
    assert cards["anthropic/own-a"].base.cache_write == 4_000_000
    assert cards["anthropic/own-b"].base.cache_write == 3_750_000
    assert cards["anthropic/own-b"].base.cache_read == 3_000_000


def test_an_unknown_price_is_missing_and_never_free():
    cards, missing = rate_cards(
        named(
            deployment(RESELLER, "gpt-6-luna"),
            deployment(OPENAI, "a-model-of-tomorrow"),
            deployment(Provider("my-openai", "openai", "https://llm.example"), "gpt-6-luna"),
            deployment(Provider("perplexity", "openai", "https://api.perplexity.ai"), "sonar"),
        )
    )
    assert cards == {}
    assert missing == {
        "n1n/gpt-6-luna": "no price",
        "openai/a-model-of-tomorrow": "no price",
        "my-openai/gpt-6-luna": "no price",
        "perplexity/sonar": "no price: it is charged by requests_kcount too, not only by the token",
    }


def test_a_provider_is_known_by_its_apis_address_whatever_its_name():
    cards, _ = rate_cards(
        named(deployment(Provider("us", "openai", "https://api.openai.com/v1"), "gpt-5-mini"))
    )
    assert cards["us/gpt-5-mini"].base.input == 250_000


def test_cards_are_kept_for_the_same_question_and_never_for_another(tmp_path: Path):
    first, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=tmp_path)
    kept = json.loads((tmp_path / "rate_cards.json").read_text())
    kept["cards"]["openai/gpt-5-mini"]["tiers"]["default"][0][2][0][1]["input"] = "7"
    (tmp_path / "rate_cards.json").write_text(json.dumps(kept))
    again, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=tmp_path)
    both = named(deployment(OPENAI, "gpt-5-mini"), deployment(OPENAI, "gpt-6-luna"))
    other, _ = rate_cards(both, cache_dir=tmp_path)
    assert again["openai/gpt-5-mini"].base.input == 7_000_000
    assert other["openai/gpt-5-mini"] == first["openai/gpt-5-mini"]
    assert [path.name for path in tmp_path.iterdir()] == ["rate_cards.json"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"key": 1}'])
def test_a_spoilt_cache_is_asked_for_anew(tmp_path: Path, content: str):
    (tmp_path / "rate_cards.json").write_text(content)
    cards, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=tmp_path)
    assert cards["openai/gpt-5-mini"].base.input == 250_000


def test_a_home_that_cannot_be_written_costs_only_time(tmp_path: Path):
    home = tmp_path / "home"
    home.write_text("a file where the folder should be")
    home.chmod(stat.S_IRUSR)
    cards, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=home)
    assert cards["openai/gpt-5-mini"].base.input == 250_000
