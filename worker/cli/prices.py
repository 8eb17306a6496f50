"""`fairlane usage --prices`: what each deployment costs, and who says so."""

from __future__ import annotations

import click

from producer_sdk.contract import usd_text
from worker.budget.catalogue import rate_cards
from worker.cli.asked import print_table, say
from worker.rate_card import RateCard
from worker.routing_load import load
from worker.settings import WorkerSettings

NUMBERS = ("input", "cache_read", "cache_write", "cache_write_long", "output")
COLUMNS = ("deployment", "in", "cached in", "cache write", "1 h write", "out", "card", "source")
MTOK = 1_000_000


def show_prices(settings: WorkerSettings, *, as_json: bool) -> None:
    """USD per million tokens, as calls are booked. Raises ConfigError."""
    deployments = load(settings.routing_path).deployments()
    cards, missing = rate_cards(deployments, cache_dir=settings.home if settings.home.is_dir() else None)
    told = {name: _told(card) for name, card in sorted(cards.items())}

    def words() -> None:
        rows = [
            [name, *(card[number] for number in NUMBERS), card["id"], card["source"]]
            for name, card in told.items()
        ]
        print_table(COLUMNS, rows, title="USD per million tokens")
        for name, why in sorted(missing.items()):
            click.echo(f"{name}: {why}: it is left out of plans")

    say({"prices": told, "left_out": missing}, as_json=as_json, words=words)


def _told(card: RateCard) -> dict[str, str]:
    """A 1 h write of 0 is one that is never asked for."""
    amounts = {number: usd_text(getattr(card, number) * MTOK) for number in NUMBERS}
    return {**amounts, "id": card.id, "source": card.source}
