"""Rate cards of the deployments: prices from routing.yaml, else from genai-prices, flattened once to whole numbers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from producer_sdk.contract import ceil_pico
from worker.errors import ConfigError
from worker.rate_card import DEFAULT_TIER, Band, RateCard, Rates
from worker.routing_file import Deployment, Price

FLATTEN_TIMEOUT_S = 60
# Anthropic's published premium for what it writes to its 5-minute cache.
ANTHROPIC_CACHE_WRITE = Decimal("1.25")
logger = logging.getLogger(__name__)


def rate_cards(
    deployments: Mapping[str, Deployment], *, cache_dir: Path | None = None
) -> tuple[dict[str, RateCard], dict[str, str]]:
    """The rate card of each deployment by name, and for the others why they have none.

    A price of routing.yaml comes first, and is then the whole card: what it does not state is not known. `cache_dir`
    keeps what genai-prices answered, for a day. Raises ConfigError when genai-prices cannot be read.
    """
    asked = [
        [name, d.provider.name, d.provider.base_url, d.model, d.kind]
        for name, d in sorted(deployments.items())
        if d.price is None
    ]
    known = _flattened(asked, cache_dir) if asked else {}
    cards: dict[str, RateCard] = {}
    missing: dict[str, str] = {}
    for name, deployment in deployments.items():
        if deployment.price:
            cards[name] = _stated_card(deployment, deployment.price)
        elif "missing" in known[name]:
            missing[name] = str(known[name]["missing"])
            continue
        else:
            cards[name] = known_card(deployment, known[name])
        if cards[name].asks not in cards[name].tiers:
            missing[name] = f"no price for the service tier {cards.pop(name).asks}"
    return cards, missing


def _stated_card(deployment: Deployment, price: Price) -> RateCard:
    """The card that routing.yaml states."""
    tiers = {
        tier: (Band(0, 0, tuple((above, _rates(deployment, _stated(one))) for above, one in _sizes(stated))),)
        for tier, stated in {DEFAULT_TIER: price, **price.service_tiers}.items()
    }
    source = "routing.yaml, free: true" if price.free else "routing.yaml"
    return RateCard(deployment.model, source, tiers, asks=_asks(deployment))


def _sizes(price: Price) -> list[tuple[int, Price]]:
    return [(0, price), *sorted(price.above.items())]


def _stated(price: Price) -> dict[str, Decimal | None]:
    return {
        "input": price.input,
        "output": price.output,
        "cache_read": price.cache_read,
        "cache_write": price.cache_write,
        "cache_write_1h": price.cache_write_1h,
        "output_reasoning": price.reasoning,
    }


def known_card(deployment: Deployment, known: Mapping[str, Any]) -> RateCard:
    """The card that genai-prices knows."""
    tiers = {
        tier: tuple(
            Band(
                since_day, second, tuple((above, _rates(deployment, _read(rates))) for above, rates in steps)
            )
            for since_day, second, steps in bands
        )
        for tier, bands in known["tiers"].items()
    }
    source = f"genai-prices {version('genai-prices')}"
    others = frozenset(known["other_models"])
    return RateCard(deployment.model, source, tiers, asks=_asks(deployment), other_models=others)


def _read(rates: Mapping[str, str | None]) -> dict[str, Decimal | None]:
    return {name: None if amount is None else Decimal(amount) for name, amount in rates.items()}


def _asks(deployment: Deployment) -> str:
    """The tier that its calls are charged at, as far as it is known beforehand. Anthropic's `standard_only` is its
    default tier alone."""
    asked = deployment.service_tier
    return DEFAULT_TIER if asked in (None, "standard_only") else asked


def _rates(deployment: Deployment, usd: Mapping[str, Decimal | None]) -> Rates:
    """What is not priced apart costs what plain input or output costs, and an Anthropic cache write its premium."""
    premium = ANTHROPIC_CACHE_WRITE if deployment.provider.dialect == "anthropic" else Decimal(1)
    plain, reasoning = usd["input"] or Decimal(0), usd["output_reasoning"]
    derived = {"cache_read": plain, "cache_write": plain * premium}
    given = {name: derived[name] if usd[name] is None else usd[name] for name in derived}
    return Rates(
        input=_pico_per_token(plain),
        output=_pico_per_token(usd["output"] or Decimal(0)),
        cache_read=_pico_per_token(given["cache_read"] or Decimal(0)),
        cache_write=_pico_per_token(given["cache_write"] or Decimal(0)),
        cache_write_long=_pico_per_token(usd["cache_write_1h"] or Decimal(0)),
        reasoning=None if reasoning is None else _pico_per_token(reasoning),
        derived=tuple(name for name in derived if usd[name] is None)
        + (("reasoning",) if reasoning is None else ()),
    )


def _pico_per_token(usd_per_million: Decimal) -> int:
    """Whole pico-dollars per token; a price with a finer fraction is rounded up, so that nothing is charged too low."""
    return ceil_pico(usd_per_million / 1_000_000)


def _flattened(asked: list[list[Any]], cache_dir: Path | None) -> dict[str, dict[str, Any]]:
    question = json.dumps(asked)
    today = datetime.now(UTC).date().isoformat()
    key = hashlib.sha256(f"{version('genai-prices')} {today} {question}".encode()).hexdigest()
    kept = _kept(cache_dir, key)
    if kept is None:
        kept = _ask(question)
        _keep(cache_dir, key, kept)
    return kept


def _ask(question: str) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "worker.budget.flatten"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module, no shell
            command, input=question, capture_output=True, text=True, timeout=FLATTEN_TIMEOUT_S, check=True
        )
        answer: dict[str, dict[str, Any]] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ConfigError(
            f"the prices of genai-prices could not be read ({type(error).__name__}): "
            "reinstall it, or give each deployment a price in routing.yaml"
        ) from error
    return answer


def _kept(cache_dir: Path | None, key: str) -> dict[str, dict[str, Any]] | None:
    if cache_dir is None:
        return None
    try:
        kept = json.loads((cache_dir / "rate_cards.json").read_text())
    except (OSError, ValueError):
        return None
    return kept["cards"] if isinstance(kept, dict) and kept.get("key") == key else None


def _keep(cache_dir: Path | None, key: str, cards: dict[str, dict[str, Any]]) -> None:
    """Several workers may write at once: each writes a file of its own and puts it in place whole."""
    if cache_dir is None:
        return
    own = cache_dir / f"rate_cards.{os.getpid()}.json"
    try:
        own.write_text(json.dumps({"key": key, "cards": cards}))
        own.replace(cache_dir / "rate_cards.json")
    except OSError as error:
        logger.info("the rate cards are not kept in %s: %s", cache_dir, error.strerror)
