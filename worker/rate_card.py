"""A deployment's prices, flattened to whole pico-dollars per token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from producer_sdk.contract import Usage


@dataclass(frozen=True)
class RateCard:
    """Pico-dollars per token; input is what is neither read from nor written to the provider's cache."""

    model: str
    source: str
    input: int
    output: int
    cache_read: int
    cache_write: int

    @property
    def id(self) -> str:
        """Names exactly these numbers, so that a price change never rewrites a ledger row."""
        numbers = f"{self.model}|{self.input}|{self.output}|{self.cache_read}|{self.cache_write}"
        return hashlib.sha256(numbers.encode()).hexdigest()[:16]

    def cost(self, usage: Usage) -> int:
        """What this usage costs, in pico-dollars."""
        plain = max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)
        return (
            plain * self.input
            + usage.cache_read_tokens * self.cache_read
            + usage.cache_write_tokens * self.cache_write
            + usage.output_tokens * self.output
        )

    def highest(self, *, input_tokens: int, output_tokens: int) -> int:
        """The most that so many tokens can cost: every input token at the dearest input rate."""
        return input_tokens * max(self.input, self.cache_read, self.cache_write) + output_tokens * self.output
