"""Rate cards agree with genai-prices' own arithmetic, and nothing unknown is ever free."""

from __future__ import annotations

import itertools
import json
import stat
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import genai_prices
import pytest

from producer_sdk.contract import Usage, to_usd
from worker.budget.catalogue import rate_cards
from worker.budget.flatten import flattened
from worker.routing_file import Deployment, Price, Provider
from worker.routing_load import load, packaged_routing

OPENAI = Provider("openai", "openai", "https://api.openai.com/v1")
ANTHROPIC = Provider("anthropic", "anthropic", "https://api.anthropic.com/v1")
DEEPSEEK = Provider("deepseek", "openai", "https://api.deepseek.com/v1")
RESELLER = Provider("n1n", "openai", "https://api.n1n.ai/v1")


def deployment(provider: Provider, model: str, *, context: int = 190_000, price: Price | None = None):
    return Deployment(f"{provider.name}/{model}", provider, model, context, 16_000, price=price)


def named(*deployments: Deployment) -> dict[str, Deployment]:
    return {d.name: d for d in deployments}


def test_every_card_of_the_packaged_routing_equals_genai_prices_on_a_grid():
    deployments = load(packaged_routing()).deployments()
    cards, missing = rate_cards(deployments)
    assert missing == {}
    peak = datetime(2026, 11, 23, 2, tzinfo=UTC)  # DeepSeek's dear hours, which its cards are made for
    compared = 0
    for name, card in cards.items():
        if card.source == "routing.yaml":
            continue
        for plain, read, write, out in itertools.product(
            (0, 1, 999, 150_000), (0, 12_345), (0, 777), (0, 64)
        ):
            total = plain + read + write
            if total > deployments[name].context_tokens:
                continue  # no call of this deployment is so large
            counts = {
                "input_tokens": total,
                "output_tokens": out,
                "cache_read_tokens": read,
                "cache_write_tokens": write,
            }
            theirs = genai_prices.calc_price(
                genai_prices.Usage(**counts),
                deployments[name].model,
                provider_id=deployments[name].provider.name,
                genai_request_timestamp=peak,
            )
            assert to_usd(card.cost(Usage(**counts))) == theirs.total_price, (name, counts)
            compared += 1
    assert compared > 200


def test_prices_of_the_hour_are_taken_at_their_dearest_and_said_so():
    cards, _ = rate_cards(named(deployment(DEEPSEEK, "deepseek-v4-pro")))
    card = cards["deepseek/deepseek-v4-pro"]
    assert card.source.endswith(", the dearest of its hours and sizes")
    for hour in range(24):
        theirs = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=1000, output_tokens=10),
            "deepseek-v4-pro",
            provider_id="deepseek",
            genai_request_timestamp=datetime.now(UTC).replace(hour=hour, minute=30),
        )
        assert theirs.total_price <= to_usd(card.cost(Usage(input_tokens=1000, output_tokens=10)))


def test_a_dearer_size_counts_only_where_the_deployment_can_reach_it():
    within, beyond = deployment(OPENAI, "gpt-6-luna"), deployment(OPENAI, "gpt-6-luna", context=1_000_000)
    base, _ = rate_cards(named(within))
    dear, _ = rate_cards(named(beyond))
    assert base["openai/gpt-6-luna"].source.startswith("genai-prices")
    assert "dearest" not in base["openai/gpt-6-luna"].source
    assert "dearest" in dear["openai/gpt-6-luna"].source
    usage = Usage(input_tokens=900_000, output_tokens=10)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=900_000, output_tokens=10), "gpt-6-luna", provider_id="openai"
    )
    assert to_usd(dear["openai/gpt-6-luna"].cost(usage)) == theirs.total_price
    assert base["openai/gpt-6-luna"].input < dear["openai/gpt-6-luna"].input


def test_a_price_of_the_routing_file_comes_first():
    price = Price(Decimal("0.08"), Decimal("0.40"), cache_read=Decimal("0.008"))
    cards, missing = rate_cards(named(deployment(RESELLER, "gpt-6-luna", price=price)))
    card = cards["n1n/gpt-6-luna"]
    assert (missing, card.source, card.model) == ({}, "routing.yaml", "gpt-6-luna")
    assert (card.input, card.output, card.cache_read, card.cache_write) == (80_000, 400_000, 8_000, 80_000)


def test_an_anthropic_cache_write_costs_its_premium_unless_it_is_priced():
    priced = Price(Decimal(3), Decimal(15), cache_write=Decimal(4))
    plain = Price(Decimal(3), Decimal(15))
    cards, _ = rate_cards(
        named(deployment(ANTHROPIC, "own-a", price=priced), deployment(ANTHROPIC, "own-b", price=plain))
    )
    assert cards["anthropic/own-a"].cache_write == 4_000_000
    assert cards["anthropic/own-b"].cache_write == 3_750_000
    assert cards["anthropic/own-b"].cache_read == 3_000_000


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
        "perplexity/sonar": "no price: it is charged by the request, not only by the token",
    }


def test_a_provider_is_known_by_its_apis_address_whatever_its_name():
    cards, _ = rate_cards(
        named(deployment(Provider("us", "openai", "https://api.openai.com/v1"), "gpt-5-mini"))
    )
    assert cards["us/gpt-5-mini"].input == 250_000


def test_cards_are_kept_for_the_same_question_and_never_for_another(tmp_path: Path):
    first, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=tmp_path)
    kept = json.loads((tmp_path / "rate_cards.json").read_text())
    kept["cards"]["openai/gpt-5-mini"]["input"] = "7"
    (tmp_path / "rate_cards.json").write_text(json.dumps(kept))
    again, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=tmp_path)
    other, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini", context=100_000)), cache_dir=tmp_path)
    assert again["openai/gpt-5-mini"].input == 7_000_000
    assert other == first
    assert [path.name for path in tmp_path.iterdir()] == ["rate_cards.json"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"key": 1}'])
def test_a_spoilt_cache_is_asked_for_anew(tmp_path: Path, content: str):
    (tmp_path / "rate_cards.json").write_text(content)
    cards, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=tmp_path)
    assert cards["openai/gpt-5-mini"].input == 250_000


def test_a_home_that_cannot_be_written_costs_only_time(tmp_path: Path):
    home = tmp_path / "home"
    home.write_text("a file where the folder should be")
    home.chmod(stat.S_IRUSR)
    cards, _ = rate_cards(named(deployment(OPENAI, "gpt-5-mini")), cache_dir=home)
    assert cards["openai/gpt-5-mini"].input == 250_000


def test_a_price_that_begins_within_the_day_counts_already():
    before_the_rise = datetime(2026, 8, 16, 12, tzinfo=UTC)
    asked = [("d", "deepseek", "", "deepseek-v4-pro", 190_000)]
    assert Decimal(flattened(asked, before_the_rise)["d"]["output"]) == Decimal("3.96")
