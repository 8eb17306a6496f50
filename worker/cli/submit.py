"""`fairlane submit`: one job from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from producer_sdk.client import Fleet
from producer_sdk.contract import JobResult
from producer_sdk.errors import JobEnded, ResultTimeout
from producer_sdk.handle import JobHandle
from worker.cli.asked import NOT_SO, example, json_option, say
from worker.embedded.demo.inputs import read_documents
from worker.errors import ConfigError


@click.command(
    epilog=example(
        'fairlane submit --tenant acme --task classify_intent "Where is my parcel?"',
        "fairlane submit --tenant acme --task classify_intent --messages chat.json --json",
        'fairlane submit --tenant acme --task classify_intent --stream "Where is my parcel?"',
    )
)
@click.argument("text", required=False)
@click.option("--tenant", required=True, help="Who pays.")
@click.option("--task", required=True, help="A task of routing.yaml.")
@click.option(
    "--messages",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A JSON list of messages, instead of TEXT.",
)
@click.option(
    "--inputs",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A JSON list of texts to make vectors of, for an embedding task.",
)
@click.option("--dimensions", type=click.IntRange(1), help="How long the vectors shall be. [the task's]")
@click.option(
    "--documents", type=click.Path(dir_okay=False, path_type=Path), help="JSON lines with id, title and text."
)
@click.option(
    "--lane",
    type=click.Choice(["interactive", "batch"]),
    default="interactive",
    show_default=True,
    help="Where it waits.",
)
@click.option("--feature", help="What to book it under. [the task]")
@click.option("--run-id", help="The agent run it belongs to.")
@click.option("--idempotency-key", help="The same key is the same job, for ever.")
@click.option(
    "--max-output-tokens", type=click.IntRange(1), help="The longest answer. [the task's, the tier's]"
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the result.")
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option(
    "--timeout", default=60.0, type=click.FloatRange(0.1, 86_400), show_default=True, help="Seconds to wait."
)
@json_option
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    text: str | None,
    messages: Path | None,
    inputs: Path | None,
    dimensions: int | None,
    documents: Path | None,
    max_output_tokens: int | None,
    wait: bool,
    timeout: float,
    as_json: bool,
    **fields: Any,
) -> None:
    """Submit one job and print its answer; exit code 1 when it ends without one."""
    if [text, messages, inputs].count(None) != 2:
        raise click.UsageError("give the text of one user message, or --messages FILE, or --inputs FILE")
    if fields["stream"] and not wait:
        raise click.UsageError("--stream waits for the answer: leave out --no-wait")
    fields = {name: value for name, value in fields.items() if value is not None}
    if documents:
        fields["documents"] = read_documents(documents)
    if max_output_tokens:
        fields["params"] = {"max_output_tokens": max_output_tokens}
    is_followed = bool(fields["stream"])
    with Fleet() as fleet:
        try:
            if inputs:
                job = fleet.embed(inputs=read_messages(inputs), dimensions=dimensions, **fields)
            else:
                job = fleet.submit(messages=text or read_messages(messages), **fields)
            if not wait:
                say({"job_id": str(job.job_id)}, as_json=as_json, words=lambda: click.echo(job.job_id))
                return
            result = result_of(job, timeout, stream=is_followed, as_json=as_json)
        except JobEnded as refused:
            result, is_followed = refused.result, False
    if not (is_followed and as_json):
        say(
            result.model_dump(mode="json"),
            as_json=as_json,
            words=lambda: tell(result, is_printed=is_followed),
        )
    ctx.exit(0 if result.status == "succeeded" else NOT_SO)


def result_of(job: JobHandle, timeout: float, *, stream: bool, as_json: bool) -> JobResult:
    """The result, and before it the answer as it comes. Raises ResultTimeout, which names the job."""
    try:
        if stream:
            follow(job, timeout, as_json=as_json)
        return job.wait(timeout)
    except ResultTimeout as error:
        raise ResultTimeout(
            f"the result was not there within {timeout:g} s: the job goes on, `fairlane explain {job.job_id}` says "
            "where it is"
        ) from error


def follow(job: JobHandle, timeout: float, *, as_json: bool) -> None:
    """The answer as it comes, on stdout; with `as_json` one event a line."""
    has_text = False
    for event in job.stream(timeout=timeout):
        if as_json:
            click.echo(event.model_dump_json(exclude_defaults=True))
            continue
        if has_text and event.kind in ("begin", "end"):
            click.echo()
        if has_text and event.kind == "begin":
            click.echo("[what came so far is void: the answer begins anew]", err=True)
        has_text = event.kind == "text" or (has_text and event.kind == "tool_calls")
        click.echo(event.text, nl=False)


def read_messages(path: Path | None) -> Any:
    """The messages, or inputs, in a JSON file. Raises ConfigError."""
    if path is None:
        raise ConfigError("--messages needs a file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}): name a file with a JSON list"
        ) from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{error.lineno}:{error.colno}: this is not JSON: it must hold a list"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} is not UTF-8: it must hold a list in JSON") from error


def tell(result: JobResult, *, is_printed: bool = False) -> None:
    """The answer on stdout, unless it stands there already, and what it took on stderr."""
    if result.error:
        click.echo(
            f"{result.status}: {result.error.code} ({result.error.status}): {result.error.message}", err=True
        )
    elif result.vectors:
        click.echo(
            f"{len(result.embeddings)} vectors of {result.vectors.dimensions} dimensions (--json has them)"
        )
    elif not is_printed:
        click.echo(result.text)
    used = f"{result.usage.input_tokens} in, {result.usage.output_tokens} out, {result.cost_usd:f} USD"
    by = "from the cache" if result.cache == "exact" else result.deployment or "no call"
    click.echo(f"[{by}; {used}; {result.latency_ms} ms; job {result.job_id}]", err=True)
