"""`fairlane worker`, `flower`, `twin` and `migrate`: one process each, as docker-compose.yml runs them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from worker.app import environment
from worker.cli.asked import example, json_option, say
from worker.cli.fleet_commands import become, flower_command, migrate, worker_command
from worker.settings import WorkerSettings


@click.command(
    epilog=example(
        "fairlane worker --slots 500", "FAIRLANE_BROKER_URL=redis://localhost:6379/0 fairlane worker"
    )
)
@click.option(
    "--slots", type=click.IntRange(1, 100_000), help="Jobs at once in this process. [FAIRLANE_SLOTS, 200]"
)
@click.option("--name", help="This worker's name. [FAIRLANE_WORKER_NAME, host and process id]")
@click.option("--show", is_flag=True, help="Print what would be started, and start nothing.")
@json_option
def worker(slots: int | None, name: str | None, show: bool, as_json: bool) -> None:
    """Run one worker process until SIGTERM, which lets it finish or give back what it holds.

    With --json its log is JSON lines, as it always is; --show --json prints the command.
    """
    settings = WorkerSettings.from_env()
    settings = replace(settings, slots=slots or settings.slots, worker_name=name or settings.worker_name)
    argv = worker_command(settings)
    if show:
        say({"command": argv}, as_json=as_json, words=lambda: click.echo(" ".join(argv)))
        return
    become(argv, environment(settings.to_env()))


@click.command(epilog=example("fairlane flower --port 5555 --address 0.0.0.0"))
@click.option(
    "--port", default=5555, type=click.IntRange(1, 65_535), show_default=True, help="Port to listen on."
)
@click.option("--address", default="127.0.0.1", show_default=True, help="Interface to listen on.")
@click.option("--show", is_flag=True, help="Print what would be started, and start nothing.")
@json_option
def flower(port: int, address: str, show: bool, as_json: bool) -> None:
    """Run Flower, the dashboard, over the fleet's broker."""
    argv = flower_command(port, address=address)
    if show:
        say({"command": argv}, as_json=as_json, words=lambda: click.echo(" ".join(argv)))
        return
    become(argv, environment(WorkerSettings.from_env().to_env()))


@click.command(epilog=example("fairlane twin --port 9001 --books twin-books.jsonl"))
@click.option(
    "--port", default=0, type=click.IntRange(0, 65_535), help="Port; 0 takes a free one.", show_default=True
)
@click.option(
    "--books", type=click.Path(dir_okay=False, path_type=Path), help="Write every served call to this file."
)
@json_option
def twin(port: int, books: Path | None, as_json: bool) -> None:
    """Run the provider twin: a local server with all three wire formats, wrong on command, that keeps books.

    It prints one line of JSON with its URL, with or without --json.
    """
    argv = [sys.executable, "-m", "worker.embedded.twin", "--port", str(port)]
    become(argv + (["--books", str(books)] if books else []), WorkerSettings.from_env().to_env())


@click.command("migrate", epilog=example("FAIRLANE_LEDGER_URL=postgresql+psycopg2://… fairlane migrate"))
@json_option
def migrate_command(as_json: bool) -> None:
    """Bring the ledger's tables up to date; safe to run at any time and by several at once."""
    settings = WorkerSettings.from_env()
    if settings.ledger_url.startswith("sqlite:"):
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(settings.ledger_url)
    say({"migrated": True}, as_json=as_json, words=lambda: click.echo("The ledger's tables are up to date."))
