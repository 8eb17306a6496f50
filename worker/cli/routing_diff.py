"""`fairlane routing diff`: which tenants' and tasks' plans and limits another routing.yaml changes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from worker.cli.asked import NOT_SO, example, json_option, say
from worker.cli.plan_changes import Difference, Group, difference
from worker.errors import ConfigError
from worker.routing_file import RoutingFile
from worker.routing_load import load

BAD_FILE = 2
MOST_NAMED = 5


@click.command(
    epilog=example("fairlane routing diff routing.yaml new.yaml", "fairlane routing diff OLD NEW --json")
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def diff(ctx: click.Context, old: Path, new: Path, as_json: bool) -> None:
    """Say what changes from OLD to NEW, for whom: plans, deployments, prices, limits, budgets.

    Exit code 0: nothing; 1: something; 2: one of the files is wrong.
    """
    try:
        before, after = load(old), load(new)
    except ConfigError as error:
        click.echo(f"fairlane: {error}", err=True)
        ctx.exit(BAD_FILE)
    found = difference(before, after)
    told = {"old": before.version, "new": after.version, "changed": not found.is_none, **asdict(found)}
    say(told, as_json=as_json, words=lambda: _tell(found, before, after))
    ctx.exit(0 if found.is_none else NOT_SO)


def _tell(found: Difference, old: RoutingFile, new: RoutingFile) -> None:
    if found.is_none:
        click.echo(f"Nothing changes for anybody from {old.version} to {new.version}.")
        return
    if found.fleet:
        click.echo("The fleet:")
    for change in found.fleet:
        click.echo(f"  {change.said()}")
    for group in found.groups:
        click.echo(_heading(group))
        for change in group.changes:
            click.echo(f"  {change.said()}")


def _heading(group: Group) -> str:
    count = len(group.tenants)
    named = ", ".join(group.tenants[:MOST_NAMED]) + (", …" if count > MOST_NAMED else "")
    tiers = ", ".join(group.tiers)
    who = f"{count:,} tenants of {tiers} ({named})" if count > 1 else f"Tenant {named} of {tiers}"
    return f"{who}, {'task ' + ', '.join(group.tasks) if group.tasks else 'limits'}:"
