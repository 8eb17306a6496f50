"""`fairlane deployments`, `pause` and `resume`: how each deployment stands and why, and stopping its new calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from producer_sdk.broker import connect
from worker.cli.asked import NOT_SO, duration_of, example, json_option, print_table, say
from worker.cli.lanes import open_lanes
from worker.cli.routing_fleet import routing_in_force
from worker.errors import ConfigError
from worker.health import rules
from worker.health.rules import Obstacle, Pause, Standing, View
from worker.health.store import VIEW_S, HealthStore
from worker.routing_file import Deployment, RoutingFile
from worker.routing_load import load
from worker.settings import WorkerSettings
from worker.speed import Speed

COLUMNS = (
    "deployment",
    "state",
    "until (UTC)",
    "calls",
    "at most",
    "first token",
    "tokens/s",
    "measured",
    "why",
)
MOST_PACE = 9_999  # an answer that comes in one piece has no pace that means anything
STATES = {
    "paused": "paused",
    "open": "breaker open",
    "probing": "breaker half-open",
}
LONGEST_REASON = 200
SEEN_S = VIEW_S + 0.2  # by then every worker has seen that a pause is over, and hands nothing back for it


@dataclass(frozen=True)
class Shown:
    """One deployment's row. `until` None: nobody knows, or nothing has to pass; `limit` None: none is known.

    `first_token_ms`, `tokens_per_s` and `measured`, when its last answer came: None where it has not answered.
    """

    deployment: str
    state: str
    why: str
    until: datetime | None
    in_flight: int
    limit: int | None
    first_token_ms: int | None = None
    tokens_per_s: float | None = None
    measured: datetime | None = None


@asynccontextmanager
async def open_health(settings: WorkerSettings) -> AsyncIterator[HealthStore]:
    """The fleet's health; its calls raise RedisError."""
    client = connect(settings.fleet)
    try:
        yield HealthStore(client, namespace=settings.fleet.namespace)
    finally:
        await client.aclose()


def shown(deployment: Deployment, view: View, now: datetime) -> Shown:
    """A deployment's row."""
    standing = view.deployments.get(deployment.name, Standing())
    limits = [one for one in (standing.limit, deployment.concurrency) if one is not None]
    what, limit = rules.obstacle(deployment, view, age_s=0.0), min(limits, default=None)
    state, why, left_s = "healthy", "", None
    if what:
        state, why = STATES.get(what.kind, "cooling down"), what.reason
        left_s = _left_s(deployment, view, what)
    elif standing.open_s is not None:
        state, why = "breaker half-open", f"the next call tries it: {standing.open_why}"
    elif limit is not None and standing.in_flight >= limit:
        said = limit == standing.limit
        state = "full"
        why = (
            "it said before that so many calls at once were too much"
            if said
            else "its concurrency in routing.yaml"
        )
    until = now + timedelta(seconds=left_s) if left_s is not None else None
    row = Shown(deployment.name, state, why, until, standing.in_flight, limit)
    return _with_speed(row, standing.speed, now) if standing.speed else row


def _with_speed(row: Shown, speed: Speed, now: datetime) -> Shown:
    pace = None if speed.token_ms is None else min(MOST_PACE, 1000 / max(speed.token_ms, 0.001))
    return replace(
        row,
        first_token_ms=round(speed.first_ms),
        tokens_per_s=None if pace is None else round(pace, 1),
        measured=now - timedelta(seconds=speed.age_s),
    )


def _left_s(deployment: Deployment, view: View, what: Obstacle) -> float | None:
    if what.kind == "paused":
        return next(one.left_s for one in view.pauses if one.scope in rules.scopes(deployment))
    return None if what.kind == "probing" else what.wait_s


@click.command(epilog=example("fairlane deployments", "fairlane deployments --tenant acme --json"))
@click.option(
    "--tenant", default="", help="Those that are called with this tenant's own keys, as it finds them."
)
@json_option
def deployments(tenant: str, as_json: bool) -> None:
    """Show each deployment's state, why, until when, its calls under way, and how fast its last answers were."""
    settings = WorkerSettings.from_env()
    known = _called(asyncio.run(routing_in_force(settings)), tenant)

    async def look() -> View:
        async with open_health(settings) as health:
            return await health.look(known, whose=tenant)

    view = asyncio.run(look())
    now = datetime.now(UTC)
    rows = [shown(one, view, now) for one in known]
    told = {"deployments": [vars(row) for row in rows], "pauses": [vars(one) for one in view.pauses]}
    say(told, as_json=as_json, words=lambda: _tell(rows, view.pauses))


def _called(routing: RoutingFile, tenant: str) -> tuple[Deployment, ...]:
    """Every deployment, or those that a tenant has a key of its own for. Raises UsageError."""
    known = tuple(routing.deployments().values())
    if not tenant:
        return known
    own = routing.tenants[tenant].keys if tenant in routing.tenants else {}
    if not own:
        raise click.UsageError(f"routing.yaml has no tenant '{tenant}' with keys of its own")
    return tuple(one for one in known if one.provider.name in own)


def _tell(rows: list[Shown], pauses: tuple[Pause, ...]) -> None:
    print_table(
        COLUMNS,
        [
            (
                row.deployment,
                row.state,
                f"{row.until:%Y-%m-%d %H:%M:%S}" if row.until else None,
                row.in_flight,
                row.limit,
                f"{row.first_token_ms} ms" if row.first_token_ms is not None else None,
                row.tokens_per_s,
                f"{row.measured:%H:%M:%S}" if row.measured else None,
                row.why or None,
            )
            for row in rows
        ],
    )
    for one in pauses:
        click.echo(f"`fairlane resume {_options(one.scope)}` ends the pause of {_named(one.scope)}.")


def _scope(every: bool, provider: str | None) -> str:
    """What an operator means. Raises UsageError."""
    if every == (provider is not None):
        raise click.UsageError("say what: --all, or --provider NAME")
    return f"provider:{provider}" if provider else "all"


def _known(settings: WorkerSettings, provider: str | None) -> None:
    """Raises UsageError where neither the file here nor the fleet has this provider."""
    if provider is None or _is_in_file(settings.routing_path, provider):
        return
    known = asyncio.run(routing_in_force(settings)).providers
    if provider not in known:
        raise click.UsageError(
            f"routing.yaml has no provider '{provider}': it has {', '.join(sorted(known)) or 'none'}"
        )


def _is_in_file(path: Path, provider: str) -> bool:
    """A file that is wrong, or is not there, stops no operator."""
    try:
        return provider in load(path).providers
    except ConfigError:
        return False


def _named(scope: str) -> str:
    return "every provider" if scope == "all" else f"provider {scope.removeprefix('provider:')}"


def _options(scope: str) -> str:
    return "--all" if scope == "all" else f"--provider {scope.removeprefix('provider:')}"


@click.command(
    epilog=example(
        'fairlane pause --provider openai --for 10m --reason "incident 17"', "fairlane pause --all"
    )
)
@click.option("--all", "every", is_flag=True, help="Every provider.")
@click.option("--provider", help="This provider of routing.yaml.")
@click.option(
    "--for",
    "duration",
    callback=duration_of,
    help="For how long, for example 10m. [until `fairlane resume`]",
)
@click.option("--reason", default="", help="Shown by `fairlane deployments`.")
@json_option
def pause(every: bool, provider: str | None, duration: timedelta | None, reason: str, as_json: bool) -> None:
    """Stop new calls at once, on every worker; jobs wait in their lanes, calls under way go on."""
    scope, settings = _scope(every, provider), WorkerSettings.from_env()
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        raise click.UsageError(f"--reason: at most {LONGEST_REASON} printable characters")
    _known(settings, provider)
    for_ms = int(duration.total_seconds() * 1000) if duration else 0

    async def stop() -> int:
        async with open_health(settings) as health:
            return await health.pause(scope, for_ms=for_ms, reason=reason)

    until_ms = asyncio.run(stop())
    until = f"until {datetime.fromtimestamp(until_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    said = f"{_named(scope)}: paused {until if until_ms else f'until `fairlane resume {_options(scope)}`'}"
    told = {"scope": scope, "until_ms": until_ms, "reason": reason}
    say(told, as_json=as_json, words=lambda: click.echo(said))


@click.command(epilog=example("fairlane resume --provider openai", "fairlane resume --all"))
@click.option("--all", "every", is_flag=True, help="End `pause --all`; pauses of single providers stay.")
@click.option("--provider", help="End the pause of this provider.")
@json_option
@click.pass_context
def resume(ctx: click.Context, every: bool, provider: str | None, as_json: bool) -> None:
    """Let new calls begin again, waiting jobs first; exit code 1 when nothing was paused."""
    scope, settings = _scope(every, provider), WorkerSettings.from_env()

    async def go_on() -> bool:
        async with open_health(settings) as health:
            was_paused = await health.resume(scope)
        if was_paused:
            await asyncio.sleep(SEEN_S)
        async with open_lanes(settings.fleet) as lanes:
            for tenant in sorted({queue.tenant for queue in await lanes.depths() if queue.delayed}):
                await lanes.hurry(tenant)
        return was_paused

    was_paused = asyncio.run(go_on())
    if scope == "all":
        said = (
            "every provider goes on"
            if was_paused
            else "there is no pause of all (--provider NAME ends a single one)"
        )
    else:
        said = f"{_named(scope)} {'goes on' if was_paused else 'was not paused'}"
    say({"scope": scope, "was_paused": was_paused}, as_json=as_json, words=lambda: click.echo(said))
    ctx.exit(0 if was_paused else NOT_SO)
