"""`fairlane`: the command line of the fleet."""

from __future__ import annotations

import logging

import click

from worker.cli.asked import EXIT_CODES, FairlaneGroup
from worker.cli.batch import batch
from worker.cli.budget import budget
from worker.cli.dead import dead
from worker.cli.demo import demo
from worker.cli.deployments import deployments, pause, resume
from worker.cli.doctor import doctor
from worker.cli.explain import explain
from worker.cli.lanes import lanes
from worker.cli.routing import routing
from worker.cli.run_commands import flower, migrate_command, twin, worker
from worker.cli.runs import runs
from worker.cli.submit import submit
from worker.cli.up import up
from worker.cli.usage import usage


@click.group(cls=FairlaneGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fairlane")
def cli() -> None:
    """A worker fleet for LLM jobs: fair per-tenant lanes, budgets, routing and a ledger, on Celery.

    Start with `fairlane demo`, or with `fairlane up` and `fairlane submit`.
    """


for command in (
    up,
    demo,
    submit,
    batch,
    lanes,
    dead,
    usage,
    budget,
    runs,
    explain,
    routing,
    deployments,
    pause,
    resume,
    doctor,
    worker,
    flower,
    twin,
    migrate_command,
):
    cli.add_command(command)


def main() -> None:
    """The console script. What a command has to say it says itself: no log line of the parts that it asks."""
    logging.getLogger("worker").addHandler(logging.NullHandler())
    cli()
