"""`fairlane demo --model local`: the demo with a real model, as small as it is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import click

from producer_sdk.contract import JobResult
from producer_sdk.settings import default_home
from worker.cli.asked import print_table, say
from worker.cli.fleet_commands import fleet_commands
from worker.embedded.demo.inputs import DemoInputs
from worker.embedded.demo.local_play import LocalOutcome, play_local, shortened
from worker.embedded.local_model.server import MODEL, check_installed
from worker.embedded.local_model.wheel import SMOLLM2, model_file

COLUMNS = ("tenant", "jobs", "done", "tokens in", "cached", "tokens out", "USD", "p50 ms", "p95 ms")
Progress = Callable[[int], AbstractContextManager[Callable[[JobResult], None]]]


def local_demo(inputs: DemoInputs, *, workers: int, as_json: bool, progress: Progress) -> LocalOutcome:
    """Play and tell it. `progress`: shows how far so many jobs are. Raises FleetDown with why it cannot run."""
    model, inputs = cached_model(), shortened(inputs)
    if not as_json:
        click.echo(
            f"{len(inputs.messages)} messages to classify and {len(inputs.questions)} questions over documents, three "
            f"tenants. {MODEL} answers, a real model of 135 million parameters: its tokens, times and cached prefixes "
            "are real, its answers are chance."
        )
    with (
        tempfile.TemporaryDirectory(prefix="fairlane-") as home,
        progress(len(inputs.messages) + len(inputs.questions)) as on_result,
    ):
        outcome = play_local(
            inputs,
            home=Path(home),
            model=model,
            commands=fleet_commands(),
            workers=workers,
            on_result=on_result,
            clock=time.monotonic,
        )
    say(outcome.as_json(), as_json=as_json, words=lambda: tell(outcome))
    return outcome


def cached_model() -> Path:
    """The model's file in the user's home, fetched once. Raises FleetDown."""
    check_installed()
    cache = default_home() / "models"
    if not (cache / SMOLLM2.file).is_file():
        click.echo(f"Fetching the local model, 93 MB, once, into {cache} …", err=True)
    return model_file(cache)


def tell(outcome: LocalOutcome) -> None:
    """The tables, and what they are worth."""
    rows = [
        [
            one.tenant,
            one.jobs,
            one.outcomes.get("succeeded", 0),
            one.input_tokens,
            one.cache_read_tokens,
            one.output_tokens,
            f"{one.cost_usd:f}",
            one.p50_ms,
            one.p95_ms,
        ]
        for one in outcome.tenants
    ]
    print_table(COLUMNS, rows)
    for tenant in outcome.tenants:
        if tenant.refusals:
            refusals = ", ".join(f"{count} {code}" for code, count in sorted(tenant.refusals.items()))
            click.echo(f"  {tenant.tenant}: {refusals}")
    click.echo()
    books = (("ledger", outcome.ledger), ("model server's own", outcome.server))
    print_table(
        ("books", "tokens read", "tokens written"), [[name, one.read, one.written] for name, one in books]
    )
    click.echo(
        "Equal: the ledger has every token that the server worked through."
        if outcome.equal
        else "NOT equal: the ledger and the server have counted differently."
    )
    blind = outcome.labelled / outcome.labels if outcome.labels else 0
    click.echo(
        f"{outcome.right} of {outcome.labelled} messages got the right label; {blind:.1f} would be chance. So small a "
        f"model shows that everything works, and nothing about quality.\n\n{outcome.jobs_s:g} s for the jobs."
    )
