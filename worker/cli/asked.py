"""What every command shares: a group that answers expected errors in one sentence, --json, and examples in --help."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import click
import redis.exceptions
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from producer_sdk.errors import BrokerUnavailable, FleetError, ResultTimeout
from worker.errors import BudgetUnavailable, FleetDown, LedgerUnavailable, WorkerError

F = TypeVar("F", bound=Callable[..., Any])

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
WIDTH = 200  # of a table that no terminal shows
SENTENCE = 500
NOT_SO = 1
WRONG_SETTING = 3
UNREACHABLE = 4
FLEET_DOWN = 5
TOO_EARLY = 6
EXIT_CODES = """\b
Exit codes
  0  done
  1  it ran, and the answer is no: a job ended without an answer, books differ, doctor found a fault
  2  the command line is wrong
  3  a setting, a file or routing.yaml is wrong
  4  the broker or the ledger does not answer
  5  the embedded fleet cannot start or go on
  6  the result is not there yet"""


class FairlaneGroup(click.Group):
    """Turns the errors that Fairlane raises on purpose into a sentence on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (FleetError, WorkerError, redis.exceptions.RedisError) as error:
            click.echo(f"fairlane: {_sentence(error)}", err=True)
            ctx.exit(_code(error))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with the whole of its first sentence, where click would cut it off."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        rows = [(one.name or "", one.get_short_help_str(limit=SENTENCE)) for one in commands if one]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _code(error: Exception) -> int:
    if isinstance(
        error, BrokerUnavailable | LedgerUnavailable | BudgetUnavailable | redis.exceptions.RedisError
    ):
        return UNREACHABLE
    if isinstance(error, FleetDown):
        return FLEET_DOWN
    return TOO_EARLY if isinstance(error, ResultTimeout) else WRONG_SETTING


def _sentence(error: Exception) -> str:
    if isinstance(error, BudgetUnavailable | redis.exceptions.RedisError):
        return "the broker does not answer: start a fleet with `fairlane up`, or check FAIRLANE_BROKER_URL"
    return str(error)


def duration_of(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """An option's callback: 90s, 30m, 2h, 1d."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if not found:
        raise click.BadParameter("write a whole number and s, m, h or d, for example 90m")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def json_option(command: F) -> F:
    """--json: one JSON value on stdout instead of words and tables."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")(command)


def example(*lines: str) -> str:
    """An epilog that shows how the command is used."""
    return "\b\nExample\n" + "\n".join(f"  {line}" for line in lines)


def say(value: Any, *, as_json: bool, words: Callable[[], None]) -> None:
    """Print `value` as JSON, or let `words` print it for people."""
    if as_json:
        click.echo(json.dumps(value, default=str))
    else:
        words()


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None
) -> None:
    """A table for people; columns of numbers are aligned right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = all(_is_number(row[index]) for row in rows)
        table.add_column(
            column, justify="right" if numbers else "left", overflow="fold", no_wrap=numbers or not index
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(markup=False, emoji=False)  # names come from outside: [red] in one is no colour
    if not console.is_terminal:
        console.width = WIDTH
    # a narrow terminal breaks a long line where it likes; a table must not break a number
    console.width = max(console.width, Measurement.get(console, console.options, table).minimum)
    console.print(table)


def _is_number(value: object) -> bool:
    return value is None or str(value).replace(".", "", 1).isdigit()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))
