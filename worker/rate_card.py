"""A deployment's prices, flattened to whole pico-dollars per token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from producer_sdk.contract import Usage


@dataclass(frozen=True)
class RateCard:
    """Pico-dollars per token; input is what is neither read from nor written to the provider's cache.

    `cache_write_long` is the price of a prefix that is kept for an hour; 0: not known, so that none is asked for.
    """

    model: str
    source: str
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_long: int = 0

    @property
    def id(self) -> str:
        """Names exactly these numbers, so that a price change never rewrites a ledger row."""
        numbers = f"{self.model}|{self.input}|{self.output}|{self.cache_read}|{self.cache_write}"
        numbers += f"|{self.cache_write_long}" if self.cache_write_long else ""
        return hashlib.sha256(numbers.encode()).hexdigest()[:16]

    def cost(self, usage: Usage, *, long_write_tokens: int = 0) -> int:
        """What this usage costs, in pico-dollars; `long_write_tokens` of its writes are kept for an hour."""
        long_price = self.cache_write_long or self.cache_write
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        return (
            plain * self.input
            + usage.cache_read_tokens * self.cache_read
            + (usage.cache_write_tokens - long_write_tokens) * self.cache_write
            + long_write_tokens * long_price
            + usage.output_tokens * self.output
        )

    def highest(self, *, input_tokens: int, output_tokens: int) -> int:
        """The most that so many tokens can cost: every input token at the dearest input rate."""
        dearest = max(self.input, self.cache_read, self.cache_write, self.cache_write_long)
        return input_tokens * dearest + output_tokens * self.output
