"""`fairlane usage --prices`: every number of each deployment's rate card, and who says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from producer_sdk.contract import usd_text
from worker.budget.catalogue import rate_cards
from worker.cli.asked import print_table, say
from worker.rate_card import Band, RateCard, Rates
from worker.routing_load import load
from worker.settings import WorkerSettings

NUMBERS = ("input", "cache_read", "cache_write", "cache_write_long", "output", "reasoning")
COLUMNS = (
    "deployment",
    "tier",
    "from (UTC)",
    "input above",
    "in",
    "cached in",
    "cache write",
    "1 h write",
    "out",
    "thoughts",
    "card",
    "source",
)
MTOK = 1_000_000
FOOT = "* nobody states it: it follows from the price of plain input, or of output"


def show_prices(settings: WorkerSettings, *, as_json: bool) -> None:
    """USD per million tokens, as calls are booked. Raises ConfigError."""
    deployments = load(settings.routing_path).deployments()
    cards, missing = rate_cards(deployments, cache_dir=settings.home if settings.home.is_dir() else None)
    told = {name: _told(card) for name, card in sorted(cards.items())}

    def words() -> None:
        rows = [row for name, card in told.items() for row in _rows(name, card)]
        print_table(COLUMNS, rows, title="USD per million tokens")
        click.echo(FOOT)
        for name, why in sorted(missing.items()):
            click.echo(f"{name}: {why}: it is left out of plans")

    say({"prices": told, "left_out": missing}, as_json=as_json, words=words)


def _told(card: RateCard) -> dict[str, Any]:
    rates = [
        {
            "service_tier": tier,
            "since": _day(band),
            "from_utc": f"{datetime.fromtimestamp(band.second, UTC):%H:%M}",
            "input_above": above,
            **_numbers(one),
            "derived": list(one.derived),
        }
        for tier, bands in card.tiers.items()
        for band in bands
        for above, one in band.steps
    ]
    return {"id": card.id, "source": card.source, "asks": card.asks, "rates": rates}


def _day(band: Band) -> str | None:
    return (date(1970, 1, 1) + timedelta(days=band.since_day)).isoformat() if band.since_day else None


def _numbers(rates: Rates) -> dict[str, str | None]:
    """A 1 h write without a price is never asked for; thoughts without one cost what other output costs."""
    amounts = {number: getattr(rates, number) for number in NUMBERS}
    amounts["cache_write_long"] = rates.cache_write_long or None
    amounts["reasoning"] = rates.output if rates.reasoning is None else rates.reasoning
    return {name: None if pico is None else usd_text(pico * MTOK) for name, pico in amounts.items()}


def _rows(name: str, card: dict[str, Any]) -> Iterator[list[object]]:
    """What stands in the row above is not said again."""
    first = True
    for one in card["rates"]:
        times = f"{one['since']} {one['from_utc']}" if one["since"] else one["from_utc"]
        marked = [_marked(one[number], number in one["derived"]) for number in NUMBERS]
        about = [card["id"], card["source"]] if first else ["", ""]
        yield [name if first else "", one["service_tier"], times, str(one["input_above"]), *marked, *about]
        first = False


def _marked(amount: str | None, is_derived: bool) -> str | None:
    return f"{amount}*" if is_derived else amount
