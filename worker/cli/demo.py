"""`fairlane demo`: the main job on an embedded fleet in a temporary home, and its books at the end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from producer_sdk.contract import JobResult, to_usd
from worker.cli.asked import NOT_SO, example, json_option, print_table, say
from worker.cli.fleet_commands import fleet_commands
from worker.cli.local_demo import local_demo
from worker.cli.up import end_on_signals
from worker.embedded.demo.inputs import DemoInputs, read_inputs
from worker.embedded.demo.jobs import INJECTION, POISONED_TENANT
from worker.embedded.demo.play import DemoOutcome, play
from worker.embedded.demo.report import TenantReport

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    epilog=example(
        "fairlane demo",
        "fairlane demo --messages mine.csv --documents docs.jsonl --questions questions.jsonl --json",
    )
)
@click.option("--messages", type=FILE, help="CSV with the columns text and category.")
@click.option("--documents", type=FILE, help="JSON lines with id, title, text and source.")
@click.option("--questions", type=FILE, help="JSON lines with question and answer.")
@click.option(
    "--model",
    default="twin",
    show_default=True,
    type=click.Choice(["twin", "local"]),
    help="`local`: a small real model, fewer jobs; fetched once, 93 MB.",
)
@click.option("--workers", default=2, type=click.IntRange(1, 64), show_default=True, help="Worker processes.")
@json_option
@click.pass_context
def demo(
    ctx: click.Context,
    messages: Path | None,
    documents: Path | None,
    questions: Path | None,
    model: str,
    workers: int,
    as_json: bool,
) -> None:
    """Run the main job here: three tenants classify messages and ask questions over documents.

    Everything happens in a temporary folder, against the provider twin or a local model: no key is used, nothing is
    paid. Exit code 1 when the ledger and the provider's own books differ.
    """
    inputs = read_inputs(messages=messages, documents=documents, questions=questions)
    end_on_signals()
    if model == "local":
        local = local_demo(
            inputs, workers=workers, as_json=as_json, progress=lambda total: _bar(total, quiet=as_json)
        )
        ctx.exit(0 if local.equal else NOT_SO)
    if not as_json:
        introduce(inputs)
    with tempfile.TemporaryDirectory(prefix="fairlane-") as home:
        outcome = watch(inputs, home=Path(home), workers=workers, quiet=as_json)
    say(outcome.as_json(), as_json=as_json, words=lambda: tell(outcome))
    ctx.exit(0 if outcome.books.equal else NOT_SO)


def introduce(inputs: DemoInputs) -> None:
    """What is about to happen."""
    categories = len({message.category for message in inputs.messages})
    click.echo(
        f"{len(inputs.messages)} messages in {categories} categories to classify, {len(inputs.questions)} questions "
        f"over {len(inputs.documents)} documents, three tenants. The provider twin makes up answers and prices."
    )
    click.echo(
        f'One document has been given "{INJECTION}"; {POISONED_TENANT}\'s job with it must end rejected.'
    )


def watch(inputs: DemoInputs, *, home: Path, workers: int, quiet: bool) -> DemoOutcome:
    """Play the demo behind a progress bar."""
    with _bar(len(inputs.messages) + len(inputs.questions), quiet=quiet) as on_result:
        return play(
            inputs,
            home=home,
            commands=fleet_commands(),
            workers=workers,
            on_result=on_result,
            clock=time.monotonic,
        )


@contextmanager
def _bar(total: int, *, quiet: bool) -> Iterator[Callable[[JobResult], None]]:
    """A progress bar, and what it is told of each result."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        bar = progress.add_task("starting", total=total)
        yield lambda _result: progress.update(bar, advance=1, description="jobs")


def tell(outcome: DemoOutcome) -> None:
    """The tables, and what to try next."""
    columns = (
        "tenant",
        "jobs",
        "done",
        "refused",
        "hits",
        "tokens",
        "cached",
        "USD",
        "saved USD",
        "p50 ms",
        "p95 ms",
    )
    print_table(columns, [_row(tenant) for tenant in outcome.tenants])
    click.echo(
        "  hits: answered by the exact cache; cached: tokens that the provider read from its own prompt cache"
    )
    for tenant in outcome.tenants:
        if tenant.refusals:
            refusals = ", ".join(f"{count} {code}" for code, count in sorted(tenant.refusals.items()))
            click.echo(f"  {tenant.tenant}: {refusals}")
    click.echo()
    books = outcome.books
    print_table(
        ("books", "calls", "tokens", "USD"),
        [
            [
                "ledger",
                len(books.ledger),
                sum(line.tokens for line in books.ledger.values()),
                _usd(books.ledger_pico),
            ],
            [
                "provider's own",
                len(books.provider),
                sum(line.tokens for line in books.provider.values()),
                _usd(books.provider_pico),
            ],
        ],
    )
    if books.equal:
        click.echo(
            "Equal: every call that the provider billed has exactly one ledger row, at the same price."
        )
    else:
        click.echo(f"NOT equal: {len(books.differing)} attempts differ.")
    click.echo(f"\n{outcome.jobs_s:g} s for the jobs. Next:")
    program = _program()
    click.echo(f"  {program} up")
    click.echo(f'  {program} submit --tenant acme --task classify_intent "Where is my parcel?"')
    click.echo(f"  {program} usage --by tenant")


def _row(tenant: TenantReport) -> list[object]:
    answered = tenant.outcomes.get("succeeded", 0)
    tokens = tenant.input_tokens + tenant.output_tokens
    money = [f"{tenant.cost_usd:.6f}", f"{tenant.saved_usd:.6f}"]
    counts = [tenant.tenant, tenant.jobs, answered, tenant.jobs - answered, tenant.exact_hits]
    return [*counts, tokens, tenant.cache_read_tokens, *money, tenant.p50_ms, tenant.p95_ms]


def _usd(pico: int) -> str:
    return f"{to_usd(pico):.9f}"


def _program() -> str:
    """How this program was called, for commands to copy."""
    return "fairlane" if shutil.which("fairlane") else os.path.relpath(sys.argv[0])
