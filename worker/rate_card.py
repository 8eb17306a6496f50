"""A deployment's prices in whole pico-dollars per token: by service tier, by the hour, by the size of the input."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from producer_sdk.contract import Usage

DEFAULT_TIER = "default"
BATCH_TIER = (
    "batch"  # a provider's batch API; its answers may say `default`, so that the caller has to say it
)
DAY_S = 24 * 60 * 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"[-@]20\d\d(-?)(0[1-9]|1[0-2])\1(0[1-9]|[12]\d|3[01])", re.ASCII)


@dataclass(frozen=True)
class Rates:
    """Pico-dollars per token; `input` is for what is neither read from nor written to the provider's cache.

    `cache_write_long` is for a prefix that is kept for an hour; 0: not known, so that none is asked for. `reasoning`
    None: thoughts cost what other output costs. `derived` names what nobody stated: it follows from input or output.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_long: int = 0
    reasoning: int | None = None
    derived: tuple[str, ...] = field(default=(), compare=False)

    def cost(self, usage: Usage, long_write_tokens: int = 0) -> int:
        """What this usage costs; `long_write_tokens` of its writes are kept for an hour."""
        plain, output = usage.input_tokens, usage.output_tokens
        cost = output * self.output
        if self.reasoning is not None:
            cost += min(usage.reasoning_tokens, output) * (self.reasoning - self.output)
        read, written = usage.cache_read_tokens, usage.cache_write_tokens
        if read:
            plain -= read
            cost += read * self.cache_read
        if written:
            plain -= written
            cost += written * self.cache_write
            if long_write_tokens and self.cache_write_long:
                cost += long_write_tokens * (self.cache_write_long - self.cache_write)
        return cost + plain * self.input if plain > 0 else cost

    def saved(self, usage: Usage) -> int:
        """What its tokens read from the cache would have cost more as plain input."""
        return max(0, usage.cache_read_tokens * (self.input - self.cache_read))

    def highest(self, *, input_tokens: int, output_tokens: int) -> int:
        """The most that so many tokens can cost: every one at the dearest rate of its side."""
        dearest = max(self.input, self.cache_read, self.cache_write, self.cache_write_long)
        return input_tokens * dearest + output_tokens * max(self.output, self.reasoning or 0)

    def numbers(self) -> list[int | None]:
        """The rates alone."""
        return [
            self.input,
            self.output,
            self.cache_read,
            self.cache_write,
            self.cache_write_long,
            self.reasoning,
        ]


@dataclass(frozen=True)
class Band:
    """What is charged from one second of the day on, once a date has come; times are UTC, days count from 1970.

    `steps` by input size, rising: the whole request costs the last one whose number of input tokens it is above.
    """

    since_day: int
    second: int
    steps: tuple[tuple[int, Rates], ...]

    def rates(self, input_tokens: int) -> Rates:
        """The rates of a request of this size."""
        found = self.steps[0][1]
        for above, rates in self.steps:
            if input_tokens > above:
                found = rates
        return found

    def reachable(self, input_tokens: int) -> Iterator[Rates]:
        """The rates of every request up to this size."""
        return (rates for above, rates in self.steps if above == 0 or input_tokens > above)


@dataclass(frozen=True)
class RateCard:
    """All prices of a deployment. `tiers` has the bands of each service tier by its name, in the order of their times.

    `asks` is the tier that its calls ask for; they may be answered by the default tier too. `other_models` are dated
    names that look like this model's and have prices of their own.
    """

    model: str
    source: str
    tiers: Mapping[str, tuple[Band, ...]]
    asks: str = DEFAULT_TIER
    other_models: frozenset[str] = frozenset()

    @classmethod
    def flat(
        cls,
        model: str,
        source: str,
        input: int,  # noqa: A002 - the rate's name
        output: int,
        cache_read: int,
        cache_write: int,
        cache_write_long: int = 0,
    ) -> RateCard:
        """One price, whatever the tier, hour and size."""
        rates = Rates(input, output, cache_read, cache_write, cache_write_long)
        return cls(model, source, {DEFAULT_TIER: (Band(0, 0, ((0, rates),)),)})

    @cached_property
    def id(self) -> str:
        """Names exactly these numbers, so that a price change never rewrites a ledger row."""
        numbers = {
            name: [
                [band.since_day, band.second, [[above, rates.numbers()] for above, rates in band.steps]]
                for band in bands
            ]
            for name, bands in self.tiers.items()
        }
        text = json.dumps([self.model, numbers], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def base(self) -> Rates:
        """The default tier's rates for a small request, in the first hour of the day."""
        return self.tiers[DEFAULT_TIER][0].steps[0][1]

    @property
    def is_free(self) -> bool:
        """Whether nothing is ever charged; only a price that says `free: true` is so."""
        return self.highest(input_tokens=1, output_tokens=1) == 0

    @property
    def has_long_writes(self) -> bool:
        """Whether a prefix kept for an hour has a price, whatever tier, hour and size."""
        return all(rates.cache_write_long for band in self._bands(None, None) for _above, rates in band.steps)

    def rates_for(
        self,
        usage: Usage,
        *,
        at: datetime | None = None,
        service_tier: str | None = None,
        long_write_tokens: int = 0,
    ) -> Rates:
        """The rates that this usage is charged at. Where the time or the tier is not known: the dearest that it may be.

        Raises KeyError for a tier without a price.
        """
        band = self._constant.get(service_tier)
        if band is None and at is not None and service_tier is not None:
            band = _in_force(self.tiers[service_tier], at)
        if band is not None:
            return band.rates(usage.input_tokens)
        found = [band.rates(usage.input_tokens) for band in self._bands(service_tier, at)]
        return max(found, key=lambda rates: rates.cost(usage, long_write_tokens))

    def cost(
        self,
        usage: Usage,
        *,
        at: datetime | None = None,
        service_tier: str | None = None,
        long_write_tokens: int = 0,
    ) -> int:
        """What this usage costs, in pico-dollars; see `rates_for`."""
        band = self._constant.get(service_tier)  # rates_for would find it too, in a third more time
        if band is not None:
            return band.rates(usage.input_tokens).cost(usage, long_write_tokens)
        rates = self.rates_for(usage, at=at, service_tier=service_tier, long_write_tokens=long_write_tokens)
        return rates.cost(usage, long_write_tokens)

    def highest(self, *, input_tokens: int, output_tokens: int, service_tier: str | None = None) -> int:
        """The most that so many tokens can cost at any hour: an input up to that size, at its dearest rate."""
        return max(
            rates.highest(input_tokens=input_tokens, output_tokens=output_tokens)
            for band in self._bands(service_tier, None)
            for rates in band.reachable(input_tokens)
        )

    @cached_property
    def _constant(self) -> dict[str | None, Band]:
        """The tiers whose prices are the same at every hour; most are, and are priced thousands of times a second."""
        found: dict[str | None, Band] = {
            name: bands[0] for name, bands in self.tiers.items() if len(bands) == 1
        }
        if self.asks == DEFAULT_TIER and DEFAULT_TIER in found:
            found[None] = found[DEFAULT_TIER]
        return found

    def _bands(self, service_tier: str | None, at: datetime | None) -> list[Band]:
        """The bands that may be in force."""
        names = {DEFAULT_TIER, self.asks} if service_tier is None else (service_tier,)
        if at is None:
            return [band for name in names for band in self.tiers[name]]
        return [_in_force(self.tiers[name], at) for name in names]


def is_dated_name(name: str, model: str) -> bool:
    """Whether `name` is the model with a release's date, as gpt-5-mini-2025-08-07 or claude-haiku-4-5-20251001 is."""
    name, model = name.lower(), model.lower()
    return name.startswith(model) and _DATE.fullmatch(name, len(model)) is not None


def _in_force(bands: tuple[Band, ...], at: datetime) -> Band:
    """Each date's bands begin at midnight, so that the last one whose times have come is the one in force."""
    since_epoch = at - _EPOCH
    day, second, found = since_epoch.days, since_epoch.seconds, bands[0]
    for band in bands:
        if band.since_day <= day and band.second <= second:
            found = band
    return found
