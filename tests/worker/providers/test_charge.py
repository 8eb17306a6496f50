"""An answer is charged by the model and the service tier that answered; what nobody knows costs what was reserved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producer_sdk.contract import Usage, created_at
from tests.worker.providers.attempts import (
    HIGHEST_PICO,
    attempt,
    behave,
    booked,
    card,
    no_proceed,
    settings,
)
from worker.embedded.twin import Twin
from worker.job_run import Answer, Attempt
from worker.providers.charge import charge
from worker.providers.client import open_client
from worker.providers.reply import Reply
from worker.providers.step import CallProvider
from worker.rate_card import Band, RateCard, Rates
from worker.routing_file import Dialect

CHEAP, DEAR = Rates(10, 100, 1, 12), Rates(30, 300, 3, 36)
TIERS = RateCard(
    "twin-small",
    "test",
    {name: (Band(0, 0, ((0, rates),)),) for name, rates in (("default", CHEAP), ("priority", DEAR))},
)
FREE = RateCard.flat("twin-small", "test", 0, 0, 0, 0)


def one_of(base_url: str, dialect: Dialect = "openai", *, models: Mapping[str, Any] | None = None) -> Attempt:
    """An attempt at twin-small, with more models of its provider in routing.yaml; `models`: their fields."""
    one = attempt(base_url, dialect)
    asked = one.call.deployment
    aliases = {
        model: (replace(asked, name=f"{asked.provider.name}/{model}", model=model, **fields),)
        for model, fields in (models or {}).items()
    }
    one.job_run.routing = replace(one.job_run.routing, aliases={"fast-small": (asked,), **aliases})
    return one


def with_card(one: Attempt, rate_card: RateCard, **fields: Any) -> Attempt:
    """The attempt with another card, and other fields of its deployment."""
    deployment = replace(one.call.deployment, **fields)
    return replace(one, call=replace(one.call, card=rate_card, deployment=deployment))


async def run(*attempts: Attempt, cards: Mapping[str, RateCard] | None = None) -> list[Answer]:
    """Carry attempts through one CallProvider."""
    async with open_client(settings()) as client:
        step = CallProvider(client=client, cards=cards)
        return [await step.run(one, no_proceed) for one in attempts]


async def test_a_name_with_a_date_is_the_same_model(twin: Twin, dialect: Dialect):
    await behave(twin, {"answering_model": "twin-small-2026-11-01"})
    one = one_of(twin.url, dialect)
    [answer] = await run(one)
    assert answer.cost_pico == (await booked(twin, one.id)).cost_pico > 0
    assert (answer.price_flag, answer.rate_card_id) == (None, one.call.card.id)


async def test_another_model_of_the_provider_is_charged_by_its_own_card(twin: Twin, dialect: Dialect):
    await behave(twin, {"answering_model": "twin-large-20261101"})
    large = card("twin-large")
    one = one_of(twin.url, dialect, models={"twin-large": {}})
    [answer] = await run(one, cards={f"twin-{dialect}/twin-large": large})
    assert answer.cost_pico == large.cost(answer.usage) > one.call.card.cost(answer.usage)
    assert (answer.price_flag, answer.rate_card_id) == (None, large.id)


async def test_a_model_that_nobody_knows_costs_what_was_reserved_and_is_told_once(
    twin: Twin, dialect: Dialect, caplog: pytest.LogCaptureFixture
):
    await behave(twin, {"answering_model": "twin-of-tomorrow"})
    foreign = {"elsewhere/twin-of-tomorrow": card("twin-large")}
    answers = await run(one_of(twin.url, dialect), one_of(twin.url, dialect), cards=foreign)
    for answer in answers:
        assert (answer.cost_pico, answer.saved_pico) == (HIGHEST_PICO, 0)
        assert (answer.price_flag, answer.model) == ("model_unknown", "twin-of-tomorrow")
        assert answer.usage.output_tokens > 0
    assert [record.getMessage() for record in caplog.records if "no price" in record.getMessage()] == [
        f"twin-{dialect}/twin-small was answered by what has no price (model_unknown): name what answered in the "
        "deployment's answers_as, or give it a deployment with a price"
    ]


async def test_a_deployment_is_known_by_the_names_that_it_answers_by(twin: Twin):
    await behave(twin, {"answering_model": "Vendor/Twin-S"})
    one = one_of(twin.url)
    [answer] = await run(with_card(one, one.call.card, answers_as=("vendor/twin-s",)))
    assert answer.cost_pico == one.call.card.cost(answer.usage)
    assert answer.price_flag is None


async def test_what_is_free_stays_free_whoever_answers(twin: Twin):
    await behave(twin, {"answering_model": "whoever", "service_tier": "whatever"})
    [answer] = await run(with_card(one_of(twin.url), FREE))
    assert (answer.cost_pico, answer.price_flag) == (0, None)


@pytest.mark.parametrize(
    ("stated", "rates"), [("priority", DEAR), ("default", CHEAP), ("standard", CHEAP), (None, CHEAP)]
)
async def test_the_service_tier_that_answered_is_charged(
    twin: Twin, dialect: Dialect, stated: str | None, rates: Rates
):
    await behave(twin, {"service_tier": stated})
    [answer] = await run(with_card(one_of(twin.url, dialect), TIERS))
    assert answer.cost_pico == rates.cost(answer.usage) > 0


async def test_a_tier_that_is_asked_for_and_not_confirmed_costs_the_dearer_of_the_two(twin: Twin):
    [answer] = await run(with_card(one_of(twin.url), replace(TIERS, asks="priority")))
    assert answer.cost_pico == DEAR.cost(answer.usage)


async def test_a_tier_without_a_price_costs_what_was_reserved_and_is_flagged(twin: Twin, dialect: Dialect):
    await behave(twin, {"service_tier": "batch"})
    [answer] = await run(with_card(one_of(twin.url, dialect), TIERS))
    assert (answer.cost_pico, answer.price_flag) == (HIGHEST_PICO, "service_tier_unknown")


async def test_an_answer_without_usage_costs_what_was_reserved_whoever_answered(twin: Twin, dialect: Dialect):
    await behave(
        twin,
        {
            "answering_model": "whoever",
            "wrong_usage": dict.fromkeys(["prompt_tokens", "input_tokens", "promptTokenCount"], -1),
        },
    )
    [answer] = await run(one_of(twin.url, dialect))
    assert (answer.usage, answer.cost_pico, answer.price_flag) == (Usage(), HIGHEST_PICO, None)


def told(model: str, usage: Usage) -> Reply:
    return Reply("", (), model, usage)


def test_a_name_as_it_stands_comes_before_a_name_with_a_date():
    usage = Usage(input_tokens=10)
    one = one_of("http://provider.test", models={"twin-small-2026-11-01": {}, "twin-medium": {}})
    cards = {"twin-openai/twin-small-2026-11-01": card("twin-large"), "twin-openai/twin-medium": TIERS}
    for model, expected in (
        ("twin-small-2026-11-01", card("twin-large")),
        ("twin-small-2026-11-02", one.call.card),
        ("Twin-Medium", TIERS),
        ("twin-medium-20261102", TIERS),
        ("", one.call.card),
    ):
        found = charge(one, told(model, usage), cards=cards, answered_at=one.created_at)
        assert (found.cost_pico, found.card_id) == (expected.cost(usage), expected.id)


def test_a_free_deployment_that_a_priced_model_answers_is_charged():
    one = with_card(one_of("http://provider.test", models={"twin-large": {}}), FREE)
    cards = {"twin-openai/twin-large": card("twin-large")}
    usage = Usage(input_tokens=10)
    found = charge(one, told("twin-large", usage), cards=cards, answered_at=one.created_at)
    assert found.cost_pico == card("twin-large").cost(usage)


def test_another_model_is_charged_at_the_tier_that_was_asked_for():
    one = with_card(
        one_of("http://provider.test", models={"twin-large": {}, "twin-medium": {}}),
        replace(TIERS, asks="priority"),
    )
    dearer = replace(
        TIERS,
        tiers={"default": TIERS.tiers["default"], "priority": (Band(0, 0, ((0, Rates(70, 1, 1, 1)),)),)},
    )
    cards = {"twin-openai/twin-large": dearer, "twin-openai/twin-medium": card("twin-medium")}
    usage = Usage(input_tokens=10)
    found = charge(one, told("twin-large", usage), cards=cards, answered_at=one.created_at)
    assert (found.cost_pico, found.flag) == (700, None)
    found = charge(one, told("twin-medium", usage), cards=cards, answered_at=one.created_at)
    assert (found.cost_pico, found.flag) == (HIGHEST_PICO, "service_tier_unknown")


def test_a_dated_name_that_has_a_price_of_its_own_is_another_model():
    rate_card = replace(TIERS, other_models=frozenset({"twin-small-2024-05-13"}))
    one = with_card(one_of("http://provider.test"), rate_card)
    usage = Usage(input_tokens=10)
    found = charge(one, told("twin-small-2024-05-13", usage), cards={}, answered_at=one.created_at)
    assert found.flag == "model_unknown"
    found = charge(one, told("twin-small-2024-05-14", usage), cards={}, answered_at=one.created_at)
    assert found.flag is None


def test_a_call_that_spans_a_change_of_price_costs_the_dearer():
    one = one_of("http://provider.test")
    began = created_at(one.id)
    midnight = datetime(began.year, began.month, began.day, tzinfo=UTC)
    change = max(1, int((began - midnight).total_seconds()))
    for first, then in ((CHEAP, DEAR), (DEAR, CHEAP)):
        bands = (Band(0, 0, ((0, first),)), Band(0, change, ((0, then),)))
        rate_card = RateCard("twin-small", "test", {"default": bands})
        usage = Usage(input_tokens=10, cache_read_tokens=4)
        within, across = (
            charge(with_card(one, rate_card), told("", usage), cards={}, answered_at=at)
            for at in (began, began + timedelta(days=1) - timedelta(seconds=began.timestamp() % 86400))
        )
        assert within.cost_pico == then.cost(usage)
        assert (across.cost_pico, across.saved_pico) == (DEAR.cost(usage), DEAR.saved(usage))
