"""`fairlane dead`: the jobs that the lanes gave up, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from producer_sdk import Fleet, FleetSettings
from producer_sdk.contract.envelope import BadMessage, read_job, unpack
from producer_sdk.errors import FleetError
from producer_sdk.lanes import DeadJob
from worker.cli.asked import NOT_SO, FairlaneGroup, example, json_option, print_table, say

MOST = 10_000
COLUMNS = ("job_id", "tenant", "deliveries", "since", "reason")


@click.group(
    cls=FairlaneGroup,
    epilog=example("fairlane dead list --tenant acme", "fairlane dead replay --tenant acme"),
)
def dead() -> None:
    """Dead letters: jobs that were lost with their workers too often, or that no worker can read."""


def _chosen(job_ids: Sequence[str], tenant: str | None, everything: bool) -> list[str]:
    """The letters that the command line names: by id, by tenant, or all."""
    if sum([bool(job_ids), tenant is not None, everything]) != 1:
        raise click.UsageError("say which: job ids, --tenant NAME, or --all")
    if job_ids:
        return list(job_ids)
    with Fleet(FleetSettings.from_env()) as fleet:
        return [job.job_id for job in fleet.dead_letters(limit=MOST, tenant=tenant)]


@dead.command("list", epilog=example("fairlane dead list --tenant acme"))
@click.option("--tenant", help="Of this tenant alone.")
@click.option(
    "--limit", default=100, type=click.IntRange(1, MOST), show_default=True, help="At most so many."
)
@json_option
def list_command(tenant: str | None, limit: int, as_json: bool) -> None:
    """List them, the newest first."""
    with Fleet(FleetSettings.from_env()) as fleet:
        found = fleet.dead_letters(limit=limit, tenant=tenant)
    say({"dead": [asdict(job) for job in found]}, as_json=as_json, words=lambda: _tell(found))


def _tell(found: Sequence[DeadJob]) -> None:
    if not found:
        click.echo("There are no dead letters.")
        return
    rows = [[job.job_id, job.tenant, job.deliveries, _moment(job.since_ms), job.reason] for job in found]
    print_table(COLUMNS, rows)


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@dead.command("show", epilog=example("fairlane dead show 018f3a5e-7c00-7000-8000-000000000001 --json"))
@click.argument("job_id")
@click.option("--content", is_flag=True, help="Print the job itself too, prompts and documents included.")
@json_option
def show(job_id: str, content: bool, as_json: bool) -> None:
    """Show one: whose it is, why it was given up, and, if asked, what it says."""
    with Fleet(FleetSettings.from_env()) as fleet:
        message = fleet.dead_message(job_id)
        entry = next((job for job in fleet.dead_letters(limit=MOST) if job.job_id == job_id), None)
    shown = {**(asdict(entry) if entry else {"job_id": job_id}), **_of_message(message, content=content)}
    say(shown, as_json=as_json, words=lambda: _lines(shown))


def _of_message(message: bytes, *, content: bool) -> dict[str, Any]:
    try:
        envelope = unpack(message)
        job = read_job(envelope)
    except BadMessage as error:
        return {"bytes": len(message), "unreadable": str(error)}
    about = {"task": job.task, "lane": job.lane, "priority": job.priority, "bytes": len(message)}
    return about | ({"job": job.model_dump(mode="json", exclude_defaults=True)} if content else {})


def _lines(shown: dict[str, Any]) -> None:
    for name, value in shown.items():
        click.echo(f"{name:<12}{value}")


@dead.command("replay", epilog=example("fairlane dead replay --tenant acme", "fairlane dead replay --all"))
@click.argument("job_ids", nargs=-1)
@click.option("--tenant", help="Every dead letter of this tenant.")
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@json_option
@click.pass_context
def replay(
    ctx: click.Context, job_ids: tuple[str, ...], tenant: str | None, everything: bool, as_json: bool
) -> None:
    """Run them once more, each as a job of its own, and take them off the list. What is refused stays on it."""
    replayed, refused = {}, {}
    chosen = _chosen(job_ids, tenant, everything)
    with Fleet(FleetSettings.from_env()) as fleet:
        for job_id in chosen:
            try:
                replayed[job_id] = str(fleet.replay(job_id).job_id)
            except FleetError as error:
                refused[job_id] = str(error)

    def words() -> None:
        for old, new in replayed.items():
            click.echo(f"{old} runs again as {new}")
        for old, why in refused.items():
            click.echo(f"{old} stays: {why}")
        click.echo(f"{len(replayed)} replayed, {len(refused)} refused")

    say({"replayed": replayed, "refused": refused}, as_json=as_json, words=words)
    ctx.exit(NOT_SO if refused else 0)


@dead.command("purge", epilog=example("fairlane dead purge --tenant acme"))
@click.argument("job_ids", nargs=-1)
@click.option("--tenant", help="Every dead letter of this tenant.")
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@json_option
def purge(job_ids: tuple[str, ...], tenant: str | None, everything: bool, as_json: bool) -> None:
    """Take them off the list for good. Their results stay as they are."""
    chosen = _chosen(job_ids, tenant, everything)
    with Fleet(FleetSettings.from_env()) as fleet:
        count = fleet.discard(chosen) if chosen else 0
    say({"purged": count}, as_json=as_json, words=lambda: click.echo(f"{count} purged"))
