"""`fairlane routing`: a routing.yaml's mistakes, its schema, the plans it makes, what a change means, publishing it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from worker.cli.asked import WRONG_SETTING, FairlaneGroup, example, json_option, say
from worker.cli.routing_diff import diff
from worker.cli.routing_fleet import publish as make_the_fleets
from worker.cli.routing_show import show
from worker.routing_load import check as faults_of
from worker.routing_load import load, load_source, routing_schema, source_of
from worker.settings import WorkerSettings, local_url


@click.group(
    cls=FairlaneGroup,
    epilog=example(
        "fairlane routing check ./routing.yaml",
        "fairlane routing show --task rag_answer --tenant acme",
        "fairlane routing diff routing.yaml new.yaml",
    ),
)
def routing() -> None:
    """Look at the control plane, routing.yaml."""


@routing.command(
    epilog=example("fairlane routing check ./routing.yaml", "routing.yaml is valid: version 3fa…")
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Check FILE (else FAIRLANE_ROUTING, else ./routing.yaml); a bare mapping of tasks is accepted too."""
    path = file or WorkerSettings.from_env().routing_path
    faults = faults_of(path, local_url=local_url())
    if faults:
        say(
            {"file": str(path), "valid": False, "faults": faults},
            as_json=as_json,
            words=lambda: click.echo("\n".join(faults)),
        )
        ctx.exit(WRONG_SETTING)
    loaded = load(path)
    counts = {
        "providers": len(loaded.providers),
        "aliases": len(loaded.aliases),
        "deployments": len(loaded.deployments()),
        "tasks": len(loaded.tasks),
        "tiers": len(loaded.tiers),
        "tenants": len(loaded.tenants),
    }
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(
        {"file": str(path), "valid": True, "version": loaded.version, **counts},
        as_json=as_json,
        words=lambda: click.echo(f"{path} is valid (version {loaded.version}): {said}."),
    )


@routing.command(
    epilog=example("fairlane routing schema > routing.schema.json", "fairlane routing schema --json")
)
@json_option
def schema(as_json: bool) -> None:
    """Print routing.yaml's JSON Schema, for editors: name it in the file's first line.

    # yaml-language-server: $schema=routing.schema.json
    """
    click.echo(json.dumps(routing_schema(), indent=None if as_json else 2))


@routing.command(epilog=example("fairlane routing publish ./routing.yaml", "fairlane routing publish --json"))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def publish(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Make FILE (else FAIRLANE_ROUTING, else ./routing.yaml) the fleet's: every worker begins new jobs with it.

    Put the same file where the workers read theirs: a fleet that was ended starts with that one.
    """
    settings = WorkerSettings.from_env()
    path = file or settings.routing_path
    faults = faults_of(path, local_url=local_url())
    if faults:
        say(
            {"file": str(path), "published": False, "faults": faults},
            as_json=as_json,
            words=lambda: click.echo("\n".join(faults)),
        )
        ctx.exit(WRONG_SETTING)
    loaded, source = load_source(source_of(path))
    now = asyncio.run(make_the_fleets(settings, source, loaded.version))
    said = (
        f"{path} is the fleet's (version {now.version}, number {now.number}): workers change within seconds."
    )
    told = {"file": str(path), "published": True, "version": now.version, "number": now.number}
    say(told, as_json=as_json, words=lambda: click.echo(said))


routing.add_command(show)
routing.add_command(diff)
