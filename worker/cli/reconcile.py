"""`fairlane usage reconcile`: what uncertain calls cost after all, from a provider's own export."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click

from producer_sdk.contract import Usage, to_pico, to_usd
from worker.cli.asked import example, json_option, print_table, say
from worker.cli.opened import open_ledger
from worker.errors import ConfigError
from worker.ledger.ledger import Ledger, Settlement
from worker.settings import WorkerSettings

REQUIRED = ("attempt_id", "cost_usd")
COUNTED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
COLUMNS = ("attempt", "when", "tenant", "provider", "model", "at most USD")
MOST_USD = 1_000_000
MOST_TOKENS = 2**31 - 1
ROWS_A_CHANGE = 200
T = TypeVar("T")


@click.command(
    epilog=example("fairlane usage reconcile", "fairlane usage reconcile november.csv --dry-run"),
)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--tenant", help="Without FILE: list only this tenant's.")
@click.option("--dry-run", is_flag=True, help="Read FILE and say what is in it, but change nothing.")
@json_option
def reconcile(file: Path | None, tenant: str | None, dry_run: bool, as_json: bool) -> None:
    """Settle uncertain calls at what FILE says that they cost; without FILE, list them.

    FILE is CSV with a head line: attempt_id (providers are sent it as x-fairlane-attempt), cost_usd, and, where
    they are known, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens and
    model. A wrong line is named, and then nothing is changed. A call that is not uncertain is left as it is.
    """
    settings = WorkerSettings.from_env()
    if file is None:
        _list(settings, tenant, as_json=as_json)
        return
    known = read_export(file)
    outcomes = {} if dry_run else _with_ledger(settings, lambda ledger: _settle(ledger, known))
    counts = Counter(outcomes.values())
    told = {"lines": len(known), "dry_run": dry_run, **counts}

    def words() -> None:
        click.echo(f"{len(known)} calls read" + (", nothing changed" if dry_run else ""))
        for outcome, count in sorted(counts.items()):
            said = "settled at what they cost" if outcome == "reconciled" else f"left as they are: {outcome}"
            click.echo(f"{count} {said}")

    say(told, as_json=as_json, words=words)


def _list(settings: WorkerSettings, tenant: str | None, *, as_json: bool) -> None:
    rows = _with_ledger(settings, lambda ledger: ledger.uncertain(tenant=tenant))
    listed = [
        {
            "attempt_id": str(row.id),
            "created_at": row.created_at.isoformat(timespec="seconds"),
            "tenant": row.tenant,
            "provider": row.provider,
            "model": row.model,
            "at_most_usd": f"{to_usd(row.cost_pico):f}",
        }
        for row in rows
    ]

    def words() -> None:
        if listed:
            print_table(COLUMNS, [list(row.values()) for row in listed])
        else:
            click.echo("No call is uncertain.")

    say({"uncertain": listed}, as_json=as_json, words=words)


def read_export(path: Path) -> dict[UUID, Settlement]:
    """What the export knows. Raises ConfigError with the line and what would be right."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(
                    f"{path.name}: the head line has no {missing[0]}: it must name {', '.join(REQUIRED)}"
                )
            known: dict[UUID, Settlement] = {}
            for row in reader:
                attempt_id, settlement = _line(row, f"{path.name}:{reader.line_num}")
                if attempt_id in known:
                    raise ConfigError(
                        f"{path.name}:{reader.line_num}: attempt_id stands twice: leave one line of it"
                    )
                known[attempt_id] = settlement
            return known
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name} cannot be read as CSV in UTF-8 ({type(error).__name__})") from error


def _line(row: dict[str, Any], place: str) -> tuple[UUID, Settlement]:
    try:
        attempt_id = UUID((row["attempt_id"] or "").strip())
    except ValueError:
        raise ConfigError(f"{place}: attempt_id is not a UUID: it is what x-fairlane-attempt said") from None
    usage = Usage(**{name: _tokens(row.get(name), name, place) for name in COUNTED})
    return attempt_id, Settlement(
        "settled", _cost(row["cost_usd"], place), usage, model=row.get("model") or None
    )


def _cost(text: str | None, place: str) -> int:
    try:
        cost = Decimal((text or "").strip())
    except InvalidOperation:
        cost = Decimal(-1)
    if not cost.is_finite() or not 0 <= cost <= MOST_USD:
        raise ConfigError(f"{place}: cost_usd must be a number from 0 to {MOST_USD}, for example 0.0012")
    return to_pico(cost)


def _tokens(text: str | None, name: str, place: str) -> int:
    text = (text or "0").strip()
    if not text.isascii() or not text.isdecimal() or int(text) > MOST_TOKENS:
        raise ConfigError(f"{place}: {name} must be a whole number from 0 on, or be left empty")
    return int(text)


async def _settle(ledger: Ledger, known: dict[UUID, Settlement]) -> dict[UUID, str]:
    items, outcomes = list(known.items()), {}
    for at in range(0, len(items), ROWS_A_CHANGE):
        outcomes.update(await ledger.reconcile(dict(items[at : at + ROWS_A_CHANGE])))
    return outcomes


def _with_ledger(settings: WorkerSettings, act: Callable[[Ledger], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_ledger(settings) as ledger:
            return await act(ledger)

    return asyncio.run(run())
