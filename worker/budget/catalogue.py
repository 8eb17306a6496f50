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
from worker.rate_card import RateCard
from worker.routing_file import Deployment, Price

FLATTEN_TIMEOUT_S = 60
# Anthropic's published premium for what it writes to its 5-minute cache.
ANTHROPIC_CACHE_WRITE = Decimal("1.25")
logger = logging.getLogger(__name__)


def rate_cards(
    deployments: Mapping[str, Deployment], *, cache_dir: Path | None = None
) -> tuple[dict[str, RateCard], dict[str, str]]:
    """The rate card of each deployment by name, and for the others why they have none.

    A price of routing.yaml comes first. Where prices change with the hour or with the size of the input, the card
    takes the dearest that the deployment can reach, and its source says so. `cache_dir` keeps what genai-prices
    answered, for a day. Raises ConfigError when genai-prices cannot be read.
    """
    asked = [
        [name, d.provider.name, d.provider.base_url, d.model, d.context_tokens]
        for name, d in sorted(deployments.items())
        if d.price is None
    ]
    known = _flattened(asked, cache_dir) if asked else {}
    cards: dict[str, RateCard] = {}
    missing: dict[str, str] = {}
    for name, deployment in deployments.items():
        if deployment.price:
            cards[name] = _card(deployment, deployment.price, "routing.yaml")
        elif "missing" in known[name]:
            missing[name] = str(known[name]["missing"])
        else:
            long_write = Decimal(known[name]["cache_write_1h"] or 0)
            cards[name] = _card(deployment, _price(known[name]), _source(known[name]), long_write=long_write)
    return cards, missing


def _card(deployment: Deployment, price: Price, source: str, *, long_write: Decimal = Decimal(0)) -> RateCard:
    """What is not priced apart costs what plain input costs, and an Anthropic cache write its premium."""
    premium = ANTHROPIC_CACHE_WRITE if deployment.provider.dialect == "anthropic" else Decimal(1)
    cache_read = price.input if price.cache_read is None else price.cache_read
    cache_write = price.input * premium if price.cache_write is None else price.cache_write
    return RateCard(
        model=deployment.model,
        source=source,
        input=_pico_per_token(price.input),
        output=_pico_per_token(price.output),
        cache_read=_pico_per_token(cache_read),
        cache_write=_pico_per_token(cache_write),
        cache_write_long=_pico_per_token(long_write),
    )


def _pico_per_token(usd_per_million: Decimal) -> int:
    return ceil_pico(usd_per_million / 1_000_000)


def _price(known: Mapping[str, Any]) -> Price:
    amounts = {
        field: None if known[field] is None else Decimal(known[field])
        for field in ("input", "output", "cache_read", "cache_write")
    }
    return Price(**amounts)  # type: ignore[arg-type]  # input and output are never null


def _source(known: Mapping[str, Any]) -> str:
    dearest = ", the dearest of its hours and sizes" if known["dearest"] else ""
    return f"genai-prices {version('genai-prices')}{dearest}"


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
