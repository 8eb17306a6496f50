"""Rate cards: which rates a usage is charged at, and that a reservation is a bound on all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_sdk.contract import Usage
from worker.rate_card import DAY_S, Band, RateCard, Rates, is_dated_name

FLAT = RateCard.flat("m", "test", input=10, output=100, cache_read=1, cache_write=12, cache_write_long=20)
CHEAP, DEAR = Rates(10, 100, 1, 12), Rates(20, 200, 2, 24)
HOUR = 3600
DATE = datetime(2026, 12, 1, tzinfo=UTC)
DAY = (DATE - datetime(1970, 1, 1, tzinfo=UTC)).days

amounts = st.integers(1, 10**9)
rates = st.builds(Rates, amounts, amounts, amounts, amounts, st.just(0) | amounts, st.none() | amounts)
steps = st.builds(
    lambda first, more: ((0, first), *sorted(more.items())),
    rates,
    st.dictionaries(st.integers(1, 3000), rates, max_size=2),
)
days = st.dictionaries(st.integers(1, DAY_S - 1), steps, max_size=2)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Band, ...]:
    """One or two dates, each with the bands of its day."""
    bands: list[Band] = []
    for since in (0, *draw(st.sampled_from([(), (DAY,)]))):
        bands.append(Band(since, 0, draw(steps)))
        bands += [Band(since, second, found) for second, found in sorted(draw(days).items())]
    return tuple(bands)


cards = st.builds(
    lambda found, asks: RateCard("m", "test", found, asks=asks),
    st.fixed_dictionaries({"default": tiers(), "flex": tiers(), "batch": tiers()}),
    st.sampled_from(["default", "flex"]),
)
times = st.datetimes(datetime(2026, 11, 20), datetime(2026, 12, 20), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def usages(draw: st.DrawFn) -> tuple[Usage, int]:
    """A usage whose parts fit, and how much of its writes is kept for an hour."""
    total, output = draw(st.integers(0, 4000)), draw(st.integers(0, 4000))
    read = draw(st.integers(0, total))
    written = draw(st.integers(0, total - read))
    usage = Usage(
        input_tokens=total,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=draw(st.integers(0, output)),
    )
    return usage, draw(st.integers(0, written))


@given(cards, usages(), times, st.sampled_from([None, "default", "flex", "batch"]), st.integers(0, 1000))
def test_what_is_reserved_is_never_less_than_what_is_charged(
    card: RateCard, used: tuple[Usage, int], at: datetime, tier: str | None, more: int
):
    usage, long = used
    size = {"input_tokens": usage.input_tokens + more, "output_tokens": usage.output_tokens + more}
    cost = card.cost(usage, at=at, service_tier=tier, long_write_tokens=long)
    assert cost <= card.highest(**size, service_tier=tier)
    assert cost <= card.cost(usage, service_tier=tier, long_write_tokens=long), "no time is told: the dearest"
    if tier in ("default", card.asks):
        assert cost <= card.highest(**size), "the tier asked for and the default one are reserved for"
        assert cost <= card.cost(usage, at=at, long_write_tokens=long), "no tier is told: the dearest"


def test_a_cache_write_for_an_hour_has_its_own_price():
    usage = Usage(input_tokens=100, cache_write_tokens=100)
    assert FLAT.cost(usage) == 1200
    assert FLAT.cost(usage, long_write_tokens=60) == 40 * 12 + 60 * 20
    assert FLAT.highest(input_tokens=100, output_tokens=1) == 100 * 20 + 100


def test_thoughts_are_output_unless_they_have_a_price():
    usage = Usage(output_tokens=10, reasoning_tokens=4)
    assert CHEAP.cost(usage) == 10 * 100
    assert replace(CHEAP, reasoning=30).cost(usage) == 6 * 100 + 4 * 30


def test_the_whole_request_costs_the_dearer_price_above_a_step():
    card = RateCard("m", "test", {"default": (Band(0, 0, ((0, CHEAP), (1000, DEAR))),)})
    assert card.cost(Usage(input_tokens=1000, output_tokens=1)) == 1000 * 10 + 100
    assert card.cost(Usage(input_tokens=1001, output_tokens=1)) == 1001 * 20 + 200
    assert card.highest(input_tokens=1000, output_tokens=1) == 1000 * 12 + 100
    assert card.highest(input_tokens=1001, output_tokens=1) == 1001 * 24 + 200


def test_the_hour_and_the_date_choose_the_band_whatever_the_zone():
    small, large = ((0, CHEAP),), ((0, DEAR),)
    bands = (Band(0, 0, small), Band(0, HOUR, large), Band(0, 4 * HOUR, small), Band(DAY, 0, large))
    card = RateCard("m", "test", {"default": bands})
    usage = Usage(input_tokens=1)
    day = DATE - timedelta(days=1)
    for hours, cost in ((0, 10), (1, 20), (3.99, 20), (4, 10), (23.99, 10), (24, 20), (30, 20)):
        at = day + timedelta(hours=hours)
        assert card.cost(usage, at=at) == cost
        assert card.cost(usage, at=at.astimezone(timezone(timedelta(hours=9)))) == cost


def test_a_tier_without_a_price_is_never_charged_as_another():
    with pytest.raises(KeyError):
        FLAT.cost(Usage(input_tokens=1), service_tier="batch")
    with pytest.raises(KeyError):
        FLAT.highest(input_tokens=1, output_tokens=1, service_tier="batch")


def test_a_card_is_named_by_every_one_of_its_numbers_and_by_nothing_else():
    base = RateCard("m", "test", {"default": (Band(0, 0, ((0, CHEAP), (1000, DEAR))),)})
    others = [
        replace(base, model="n"),
        RateCard("m", "test", {"flex": base.tiers["default"]}),
        RateCard("m", "test", {"default": (Band(0, 0, ((0, CHEAP), (1001, DEAR))),)}),
        RateCard("m", "test", {"default": (Band(0, 1, ((0, CHEAP), (1000, DEAR))),)}),
        RateCard("m", "test", {"default": (Band(1, 0, ((0, CHEAP), (1000, DEAR))),)}),
        *(
            RateCard(
                "m", "test", {"default": (Band(0, 0, ((0, CHEAP), (1000, replace(DEAR, **{name: 7})))),)}
            )
            for name in ("input", "output", "cache_read", "cache_write", "cache_write_long", "reasoning")
        ),
    ]
    assert len({base.id, *(other.id for other in others)}) == len(others) + 1
    assert replace(base, source="elsewhere").id == base.id


def test_only_a_whole_date_makes_a_dated_name():
    dated = ["gpt-5-mini-2025-08-07", "gpt-5-mini-20250807", "gpt-5-mini@20250807", "GPT-5-mini-2025-08-07"]
    others = [
        "gpt-5-mini",
        "gpt-5-mini-2025",
        "gpt-5-mini-2025-13-07",
        "gpt-5-mini-2025-0807",
        "gpt-5-20250807",
    ]
    others += [
        "gpt-5-mini-2025-08-07-high",
        "gpt-5-mini20250807",
        "gpt-5-mini-0807",
        "my-gpt-5-mini-20250807",
    ]
    assert [name for name in [*dated, *others] if is_dated_name(name, "gpt-5-mini")] == dated
