"""The twin's models: their made-up prices, and how it counts tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

CONTEXT_TOKENS = 128_000
MESSAGE_OVERHEAD_TOKENS = 3
MOST_IMAGE_TOKENS = 1_000
_PIECE = re.compile(r"\s*(?:\w{1,8}|[^\w\s])")


@dataclass(frozen=True)
class TwinPrice:
    """Pico-dollars per token. `cache_write_long` is what a prefix kept for an hour costs to write."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_long: int

    def usd_per_million(self) -> dict[str, Decimal]:
        """The same numbers as routing.yaml states them."""
        prices = {"input": self.input, "output": self.output}
        prices |= {"cache_read": self.cache_read, "cache_write": self.cache_write}
        return {name: Decimal(pico) / 10**6 for name, pico in prices.items()}


# Invented for tests and the demo: no provider charges these. USD per million: 0.10/0.40, 1/4, 3/15; 0.02.
TWIN_PRICES: dict[str, TwinPrice] = {
    "twin-small": TwinPrice(100_000, 400_000, 10_000, 125_000, 200_000),
    "twin-medium": TwinPrice(1_000_000, 4_000_000, 100_000, 1_250_000, 2_000_000),
    "twin-large": TwinPrice(3_000_000, 15_000_000, 300_000, 3_750_000, 6_000_000),
    "twin-embed": TwinPrice(20_000, 0, 20_000, 20_000, 20_000),
}


def pieces(text: str) -> list[str]:
    """The twin's tokens: up to eight letters or digits, or one other sign, each with the space before it.

    Never more pieces than the text has UTF-8 bytes, so that a bound by bytes holds for the twin too.
    """
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens the twin counts in a text."""
    return len(pieces(text))
