"""`fairlane routing check`: every mistake of a routing.yaml, one sentence each, without starting anything."""

from __future__ import annotations

from pathlib import Path

import click

from worker.cli.asked import WRONG_SETTING, example, json_option, say
from worker.routing_load import check as faults_of
from worker.routing_load import load
from worker.settings import WorkerSettings, local_url


@click.group(epilog=example("fairlane routing check", "fairlane routing check ./routing.yaml --json"))
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
