"""`fairlane batch run`: a file of jobs becomes a file of results; --retry-failed runs again what failed."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from producer_sdk import Fleet, FleetSettings
from producer_sdk.contract import ErrorCode
from producer_sdk.contract.envelope import replayed
from producer_sdk.errors import ResultTimeout, SubmitInterrupted
from producer_sdk.handle import JobHandle
from worker.cli.asked import NOT_SO, TOO_EARLY, FairlaneGroup, example, json_option, say
from worker.cli.batch_file import Line, read_jobs, read_results, write_results

CODES = [str(code) for code in ErrorCode]


@click.group(cls=FairlaneGroup, epilog=example("fairlane batch run jobs.jsonl --results done.jsonl"))
def batch() -> None:
    """Files of jobs: run one, keep every line's result, run again what failed."""


@batch.command(
    "run",
    epilog=example(
        "fairlane batch run jobs.jsonl --results done.jsonl --tenant acme --task classify_intent",
        "fairlane batch run --retry-failed done.jsonl",
        "fairlane batch run --retry-failed done.jsonl --code provider_unavailable",
    ),
)
@click.argument("jobs", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), help="Where the results go.")
@click.option("--tenant", help="Who pays, for lines that do not say it.")
@click.option("--task", help="A task of routing.yaml, for lines that do not say it.")
@click.option(
    "--lane",
    type=click.Choice(["interactive", "batch"]),
    default="batch",
    show_default=True,
    help="Where they wait, for lines that do not say it.",
)
@click.option(
    "--retry-failed",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of results: run its lines without an answer once more, and write it anew.",
)
@click.option(
    "--code",
    "codes",
    multiple=True,
    type=click.Choice(CODES),
    metavar="CODE",
    help="With --retry-failed: only lines with this error, such as queue_full; may be repeated.",
)
@click.option(
    "--timeout",
    default=3600.0,
    type=click.FloatRange(0.1, 7 * 86_400),
    show_default=True,
    help="Seconds to wait for all of them.",
)
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    jobs: Path | None,
    results: Path | None,
    tenant: str | None,
    task: str | None,
    lane: str,
    retry_failed: Path | None,
    codes: tuple[str, ...],
    timeout: float,
    as_json: bool,
) -> None:
    """Submit each line of JOBS, wait, and write {"job", "result"} a line; exit code 1 when some have no answer.

    A line of JOBS is a job in JSON: {"messages": "Where is my card?"} is enough with --tenant and --task. A line
    whose job has not ended in time has the result null: --retry-failed waits for that same job again. A failed job
    is run again as a new job, which waits for a token of its tenant's retry budget instead of being refused.
    """
    if (jobs is None) == (retry_failed is None) or (jobs is None) != (results is None):
        raise click.UsageError("say which: JOBS with --results FILE, or --retry-failed FILE")
    if jobs and results:
        defaults = {name: value for name, value in (("tenant", tenant), ("task", task)) if value}
        lines, path = read_jobs(jobs, defaults | {"lane": lane}), results
        if path.exists():
            raise click.UsageError(f"{path} exists: take another name, or --retry-failed {path}")
    elif retry_failed:
        lines, path = once_more(read_results(retry_failed), codes), retry_failed
    ended = _carried(lines, path, timeout_s=timeout)
    told = told_of(lines)
    say(told, as_json=as_json, words=lambda: _tell(told, path))
    ctx.exit(TOO_EARLY if not ended else 0 if told["unanswered"] == 0 else NOT_SO)


def once_more(lines: Sequence[Line], codes: Sequence[str]) -> list[Line]:
    """The lines, those that failed (with one of these codes, if any are named) as jobs that are still to be run."""
    now = datetime.now(UTC)
    return [Line(replayed(line.job, now=now), None) if _failed(line, codes) else line for line in lines]


def _failed(line: Line, codes: Sequence[str]) -> bool:
    error = line.result.error if line.result else None
    return error is not None and (not codes or str(error.code) in codes)


def _carried(lines: Sequence[Line], path: Path, *, timeout_s: float) -> bool:
    """Run what has no result yet; whether all have ended. The file is written whatever happens."""
    waiting = [line for line in lines if line.result is None]
    try:
        with Fleet(FleetSettings.from_env()) as fleet:
            try:
                handles: Sequence[JobHandle] = fleet.submit_many(
                    [line.job for line in waiting], wait_s=timeout_s
                )
            except SubmitInterrupted as error:
                _note(waiting, [one for one in error.handles if one.error])
                raise
            try:
                _note(waiting, fleet.as_completed(handles, timeout=timeout_s))
            except ResultTimeout:
                return False
    finally:
        write_results(path, lines)
    return True


def _note(waiting: Sequence[Line], handles: Iterable[JobHandle]) -> None:
    of_job: dict[uuid.UUID, list[Line]] = {}  # two lines with one idempotency key are one job
    for line in waiting:
        of_job.setdefault(line.job.job_id, []).append(line)
    for handle in handles:
        for line in of_job[handle.job_id]:
            line.result = handle.wait()


def told_of(lines: Sequence[Line]) -> dict[str, Any]:
    """How the lines ended, with the first message of each error, and what they cost."""
    ends: Counter[str] = Counter()
    why: dict[str, str] = {}
    for line in lines:
        error = line.result.error if line.result else None
        ends[str(error.code) if error else line.result.status if line.result else "not ended"] += 1
        if error:
            why.setdefault(str(error.code), error.message)
    cost = sum((line.result.cost_usd for line in lines if line.result), Decimal(0))
    return {
        "lines": len(lines),
        "ends": dict(ends.most_common()),
        "why": why,
        "unanswered": len(lines) - ends["succeeded"],
        "cost_usd": f"{cost:f}",
    }


def _tell(told: dict[str, Any], path: Path) -> None:
    for end, count in told["ends"].items():
        why = told["why"].get(end)
        click.echo(f"{count:>8,}  {end}" + (f": {why}" if why else ""))
    click.echo(f"{told['lines']:,} lines, {told['cost_usd']} USD, in {path}")
    if told["unanswered"]:
        click.echo(f"`fairlane batch run --retry-failed {path}` runs the others once more.")
