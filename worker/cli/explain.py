"""`fairlane explain`: one job's whole story, in order, from what its steps have noted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
import redis.asyncio
import redis.exceptions

from producer_sdk.broker import connect, unavailable
from producer_sdk.contract import JobResult
from producer_sdk.errors import ResultUnreadable
from producer_sdk.lanes import JobLook
from producer_sdk.result_meta import read_meta, result_key
from worker.books import RETENTION
from worker.cli.asked import NOT_SO, example, json_option, say
from worker.cli.job_story import told, without_lane
from worker.cli.lanes import agreed_lanes
from worker.cli.opened import open_ledger
from worker.cli.story_words import lines, shown
from worker.settings import WorkerSettings
from worker.story import StoryEvent

UNKNOWN = (
    "no lane and no ledger row knows this job. A submission that was refused (queue_full, invalid_job) made none: its "
    "producer was told why. What only waited when the broker lost its memory is gone too: submit it again"
)


@click.command(
    epilog=example(
        "fairlane explain 019a1f1e-8a34-7c11-9a53-0d6b2f0c7a11",
        "fairlane explain 019a1f1e-8a34-7c11-9a53-0d6b2f0c7a11 --json",
    )
)
@click.argument("job", type=click.UUID, metavar="JOB")
@json_option
@click.pass_context
def explain(ctx: click.Context, job: UUID, as_json: bool) -> None:
    """Tell the story of JOB: its wait and why, policy, safety, cache, plan, attempts, money, and its end.

    Exit code 1 when nobody knows the job. While the broker is away, what the ledger knows is told.
    """
    events = asyncio.run(read_story(WorkerSettings.from_env(), job))
    say([plain(event) for event in events], as_json=as_json, words=lambda: _tell(job, events))
    ctx.exit(0 if events else NOT_SO)


async def read_story(settings: WorkerSettings, job_id: UUID) -> list[StoryEvent]:
    """What the lanes, SQL and the result know of the job; empty where none knows it.

    Raises BrokerUnavailable where the broker is away and SQL does not know the job.
    """
    client = connect(settings.fleet)
    look, away = None, None
    try:
        # the lane first: a job that ends meanwhile has its row by then
        try:
            look = await _look(client, settings, job_id)
        except redis.exceptions.RedisError as error:
            away = error
        async with open_ledger(settings) as ledger:
            account = await ledger.account(job_id)
        if account is None and away is not None:
            raise unavailable(away, settings.fleet) from away
        has_ended = account is not None and account.status is not None
        kept = None if has_ended or away else await client.get(result_key(str(job_id)))
    finally:
        await client.aclose()
    events = told(account, look, _result(kept), retention=RETENTION)
    return without_lane(events) if away and not has_ended else events


async def _look(client: redis.asyncio.Redis, settings: WorkerSettings, job_id: UUID) -> JobLook | None:
    lanes = await agreed_lanes(client, settings.fleet)
    return await lanes.look(str(job_id))


def _result(payload: bytes | str | None) -> JobResult | None:
    try:
        return read_meta(payload) if isinstance(payload, bytes) else None
    except ResultUnreadable:
        return None


def plain(event: StoryEvent) -> dict[str, Any]:
    """One event as JSON."""
    at = datetime.fromtimestamp(event.at_ms / 1000, UTC)
    return {"at": at.isoformat(), "step": event.step, "what": event.what, "facts": dict(event.facts)}


def _tell(job: UUID, events: list[StoryEvent]) -> None:
    if not events:
        click.echo(f"Job {job}: {UNKNOWN}.")
        return
    began = datetime.fromtimestamp(events[0].at_ms / 1000, UTC)
    click.echo(f"Job {job}, {began:%Y-%m-%d %H:%M:%S} UTC")
    for line in lines(events):
        click.echo(shown(line))
