"""`fairlane runs`: what an agent run and the runs below it have done and cost; and stopping one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from producer_sdk.broker import connect
from producer_sdk.contract import to_usd
from producer_sdk.lanes import Lanes
from producer_sdk.settings import FleetSettings
from worker.cli.asked import NOT_SO, FairlaneGroup, example, json_option, print_table, say
from worker.cli.lanes import agreed_lanes
from worker.cli.opened import open_ledger
from worker.ledger.ledger import RunJob, RunNode, RunReport
from worker.runs.store import Runs
from worker.settings import WorkerSettings

COLUMNS = ("run, job", "task", "status", "calls", "USD", "held USD")
AT_ONCE = 50


@click.group(
    cls=FairlaneGroup,
    epilog=example(
        "fairlane runs show report-17 --tenant acme", "fairlane runs stop report-17 --tenant acme"
    ),
)
def runs() -> None:
    """Agent runs: the jobs with one `run_id`, and the runs that they have begun."""


@runs.command(
    "show",
    epilog=example(
        "fairlane runs show report-17 --tenant acme", "fairlane runs show r1 --tenant acme --json"
    ),
)
@click.argument("run_id", metavar="RUN")
@click.option("--tenant", required=True, help="Whose run it is.")
@json_option
@click.pass_context
def show(ctx: click.Context, run_id: str, tenant: str, as_json: bool) -> None:
    """Show RUN and the runs below it, with their jobs, how those ended and what they cost; exit code 1 if unknown."""
    report = asyncio.run(_read(WorkerSettings.from_env(), tenant, run_id))
    is_known = any(node.jobs or node.depth for node in report.nodes)
    say(_plain(report, tenant), as_json=as_json, words=lambda: _tell(report, is_known=is_known))
    ctx.exit(0 if is_known else NOT_SO)


async def _read(settings: WorkerSettings, tenant: str, run_id: str) -> RunReport:
    async with open_ledger(settings) as ledger:
        return await ledger.run_tree(tenant, run_id)


def _plain(report: RunReport, tenant: str) -> dict[str, Any]:
    total = sum(node.cost_pico for node in report.nodes)
    return {
        "tenant": tenant,
        "runs": [_plain_run(node) for node in report.nodes],
        "cost_usd": f"{to_usd(total):f}",
        "is_whole": report.is_whole,
    }


def _plain_run(node: RunNode) -> dict[str, Any]:
    told = _in_usd(asdict(node))
    jobs = [_in_usd(asdict(job)) for job in node.jobs]
    times = ("created_at", "finished_at")
    return told | {"jobs": [job | {name: _moment(job[name]) for name in times} for job in jobs]}


def _in_usd(fields: dict[str, Any]) -> dict[str, Any]:
    cost, held = fields.pop("cost_pico"), fields.pop("held_pico")
    return fields | {"cost_usd": f"{to_usd(cost):f}", "held_usd": f"{to_usd(held):f}"}


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _tell(report: RunReport, *, is_known: bool) -> None:
    if not is_known:
        click.echo("The ledger knows no job of this run.")
        return
    print_table(COLUMNS, [row for node in report.nodes for row in _rows(node)])
    total = sum(node.cost_pico for node in report.nodes)
    jobs = sum(sum(node.statuses.values()) for node in report.nodes)
    click.echo(f"{len(report.nodes)} runs, {jobs} jobs, {to_usd(total):.6f} USD")
    if not report.is_whole:
        click.echo(
            "Not all of it is shown: the newest jobs are. Counts and costs of a run are over all of its jobs."
        )


def _rows(node: RunNode) -> Iterator[list[object]]:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(node.statuses.items())) or "no jobs"
    yield [f"{'  ' * node.depth}{node.run_id}", "", statuses, *_numbers(node)]
    for job in node.jobs:
        ended = f"{job.status} ({job.code})" if job.code else job.status
        yield [f"{'  ' * node.depth}  {job.job_id}", job.task, ended, *_numbers(job)]


def _numbers(counted: RunNode | RunJob) -> list[object]:
    return [counted.calls, f"{to_usd(counted.cost_pico):.6f}", f"{to_usd(counted.held_pico):.6f}"]


@runs.command(
    "stop", epilog=example('fairlane runs stop report-17 --tenant acme --reason "it asks itself the same"')
)
@click.argument("run_id", metavar="RUN")
@click.option("--tenant", required=True, help="Whose run it is.")
@click.option("--reason", default="", help="Told to whoever submits another job of it.")
@json_option
def stop(run_id: str, tenant: str, reason: str, as_json: bool) -> None:
    """Stop RUN and the runs below it, for seven days: what waits or runs is cancelled, what comes is refused."""
    told = asyncio.run(_stop(FleetSettings.from_env(), tenant, run_id, reason))

    def words() -> None:
        until = datetime.fromtimestamp(told["until_ms"] / 1000, UTC)
        click.echo(
            f"{run_id} is stopped until {until:%Y-%m-%d %H:%M:%S} UTC: {told['running']} jobs that ran and "
            f"{told['waiting']} that waited for another try are cancelled"
        )
        click.echo("Its jobs that no worker has begun are cancelled when they are taken, without a call.")

    say(told, as_json=as_json, words=words)


async def _stop(settings: FleetSettings, tenant: str, run_id: str, reason: str) -> dict[str, Any]:
    """The mark first: a job that begins after it is refused, and one that began before is in the set."""
    client = connect(settings)
    try:
        lanes = await agreed_lanes(client, settings)
        stopped = await Runs(client, namespace=settings.namespace).stop(tenant, run_id, why=reason)
        found = await _cancel(lanes, stopped.job_ids)
    finally:
        await client.aclose()
    return {
        "tenant": tenant,
        "run_id": run_id,
        "reason": reason,
        "until_ms": stopped.until_ms,
        "running": found["running"],
        "waiting": found["pending"],
    }


async def _cancel(lanes: Lanes, job_ids: tuple[str, ...]) -> Counter[str]:
    found: Counter[str] = Counter()
    for at in range(0, len(job_ids), AT_ONCE):
        found.update(await asyncio.gather(*(lanes.cancel(job_id) for job_id in job_ids[at : at + AT_ONCE])))
    return found
