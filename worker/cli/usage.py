"""`fairlane usage`: what the ledger says was called, used, spent and saved."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from producer_sdk.contract import to_usd
from worker.cli.asked import FairlaneGroup, example, json_option, print_table, say
from worker.cli.opened import open_ledger
from worker.cli.prices import show_prices
from worker.cli.reconcile import reconcile
from worker.ledger.ledger import DIMENSIONS, Dimension, Span, UsageRow
from worker.settings import WorkerSettings

COUNTS = ("attempts", "hits", "uncertain", "input_tokens", "output_tokens", "cache_read_tokens")
DAY = click.DateTime(["%Y-%m-%d"])


@click.group(
    cls=FairlaneGroup,
    invoke_without_command=True,
    epilog=example(
        "fairlane usage --by tenant --by model", "fairlane usage --tenant acme --since 2026-11-01 --json"
    ),
)
@click.option(
    "--by",
    "dimensions",
    multiple=True,
    type=click.Choice(DIMENSIONS),
    default=("tenant",),
    show_default=True,
    help="Group by this; may be repeated.",
)
@click.option("--tenant", help="Only this tenant.")
@click.option("--since", type=DAY, help="From this day on, UTC.")
@click.option("--before", type=DAY, help="Before this day, UTC.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print CSV instead of words; amounts with twelve decimals."
)
@click.option("--prices", is_flag=True, help="Show instead what each deployment costs, and who says so.")
@json_option
@click.pass_context
def usage(
    ctx: click.Context,
    /,
    dimensions: tuple[Dimension, ...],
    tenant: str | None,
    since: datetime | None,
    before: datetime | None,
    as_csv: bool,
    prices: bool,
    as_json: bool,
) -> None:
    """Show attempts, cache hits, tokens, cost and savings, the dearest group first."""
    if ctx.invoked_subcommand:
        return
    if as_csv and as_json:
        raise click.UsageError("choose one of --csv and --json")
    if prices:
        show_prices(WorkerSettings.from_env(), as_json=as_json)
        return
    span = Span(tenant=tenant, since=_utc(since), before=_utc(before))
    rows = asyncio.run(_ask(WorkerSettings.from_env(), dimensions, span))
    if as_csv:
        _print_csv(dimensions, [_plain(row) for row in rows])
        return
    say({"rows": [_plain(row) for row in rows]}, as_json=as_json, words=lambda: tell(dimensions, rows))


def tell(dimensions: Sequence[Dimension], rows: Sequence[UsageRow]) -> None:
    """In words."""
    if not rows:
        click.echo("The ledger holds no row of this.")
        return
    columns = ("calls", "hits", "uncertain", "in", "cached", "out", "USD", "saved USD")
    print_table((*dimensions, *columns), [_cells(row) for row in rows])


def _print_csv(dimensions: Sequence[Dimension], rows: Sequence[dict[str, Any]]) -> None:
    """A head line always, so that an empty answer is one too."""
    columns = (*dimensions, *COUNTS, "cost_usd", "saved_usd")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _as_text(value) for name, value in row.items()} for row in rows])
    click.echo(text.getvalue(), nl=False)


def _as_text(value: Any) -> Any:
    """A name that a spreadsheet would take for a formula is written so that it does not."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


async def _ask(settings: WorkerSettings, dimensions: Sequence[Dimension], span: Span) -> list[UsageRow]:
    async with open_ledger(settings) as ledger:
        return await ledger.usage(dimensions, span=span)


def _cells(row: UsageRow) -> list[object]:
    counts = [
        row.attempts,
        row.hits,
        row.uncertain,
        row.input_tokens,
        row.cache_read_tokens,
        row.output_tokens,
    ]
    return [*row.group.values(), *counts, f"{to_usd(row.cost_pico):.6f}", f"{to_usd(row.saved_pico):.6f}"]


def _plain(row: UsageRow) -> dict[str, Any]:
    counts = asdict(row)
    group, cost, saved = counts.pop("group"), counts.pop("cost_pico"), counts.pop("saved_pico")
    return {**group, **counts, "cost_usd": f"{to_usd(cost):f}", "saved_usd": f"{to_usd(saved):f}"}


def _utc(day: datetime | None) -> datetime | None:
    return day.replace(tzinfo=UTC) if day else None


usage.add_command(reconcile)
