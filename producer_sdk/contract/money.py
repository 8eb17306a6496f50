"""Money: whole pico-dollars inside (1 USD = 10^12), Decimal at the edges, rounded once."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

PICO_PER_USD = 10**12


def to_pico(usd: Decimal | str | int) -> int:
    """Whole pico-dollars for an amount in USD, rounded half to even.

    Raises ValueError for NaN and infinities. Floats are not taken: they have already been rounded.
    """
    amount = Decimal(usd)
    if not amount.is_finite():
        raise ValueError(f"an amount of money must be a finite number, not {amount}")
    return int((amount * PICO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def to_usd(pico: int) -> Decimal:
    """USD with twelve decimals for whole pico-dollars."""
    return Decimal(pico).scaleb(-12) if pico else Decimal(0)  # 0, not 0E-12


def usd_text(pico: int) -> str:
    """USD as people write them: every digit that counts, and no exponent."""
    return f"{to_usd(pico).normalize():f}"


def ceil_pico(usd: Decimal) -> int:
    """Whole pico-dollars, rounded up: for bounds."""
    return int((usd * PICO_PER_USD).to_integral_value(rounding=ROUND_CEILING))
