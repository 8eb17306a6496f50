"""`fairlane routing show`: the plan that a job would get now, and why each other deployment is left out of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pydantic
import redis.exceptions

from worker.assembly import never_called
from worker.budget.catalogue import rate_cards
from worker.cli.asked import NOT_SO, example, json_option, print_table, say
from worker.cli.deployments import open_health
from worker.cli.plan_shown import Asked, ShownPlan, call_told, plan_shown
from worker.cli.routing_fleet import FleetRouting, fleet_routing
from worker.embedded.home import Home
from worker.errors import LedgerUnavailable
from worker.health.rules import View, with_own
from worker.providers.client import open_client
from worker.providers.keys import Keys
from worker.routing_file import RoutingFile, Tenant
from worker.routing_load import load_source, source_of
from worker.settings import WorkerSettings, key_variable

NO_HEALTH = "The broker does not answer: how the deployments stand now is not in this plan."


@dataclass(frozen=True)
class Looked:
    """What the plan was made from."""

    routing: RoutingFile
    fleet: FleetRouting | None
    said: str
    view: View | None


@click.command(
    epilog=example(
        "fairlane routing show --task rag_answer --tenant acme",
        "fairlane routing show --task rag_answer --tenant acme --input-tokens 20000 --json",
    )
)
@click.option("--task", required=True, help="A task of routing.yaml.")
@click.option("--tenant", required=True, help="The job's tenant.")
@click.option(
    "--input-tokens",
    type=click.IntRange(1, 100_000_000),
    default=1000,
    show_default=True,
    help="The job's size.",
)
@click.option("--max-output-tokens", type=click.IntRange(1, 100_000_000), help="As the job would say it.")
@click.option("--job-id", type=click.UUID, help="The order is drawn for each job: show that of this one.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Plan by this file. [the version that is in force in the fleet, else FAIRLANE_ROUTING]",
)
@json_option
@click.pass_context
def show(
    ctx: click.Context,
    task: str,
    tenant: str,
    input_tokens: int,
    max_output_tokens: int | None,
    job_id: UUID | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Print the plan that a job would get now; exit code 1 if it would end without a call.

    Keys are looked for where this command runs.
    """
    asked = Asked(tenant, task, input_tokens, max_output_tokens, job_id)
    try:
        asked.job()
    except pydantic.ValidationError as error:
        raise click.UsageError(
            f"no job can name such a {error.errors()[0]['loc'][0]}: see docs/wire.md"
        ) from error
    settings = WorkerSettings.from_env()
    settings = replace(settings, local_url=settings.local_url or Home(settings.home).upstream())
    looked = asyncio.run(_look(settings, file, tenant))
    plan = asyncio.run(_plan(asked, settings, looked))
    say(_told(asked, looked, plan), as_json=as_json, words=lambda: _tell(asked, looked, plan))
    ctx.exit(NOT_SO if plan.error else 0)


async def _plan(asked: Asked, settings: WorkerSettings, looked: Looked) -> ShownPlan:
    """As a worker would make it. Raises ConfigError."""
    routing, cache_dir = looked.routing, settings.home if settings.home.is_dir() else None
    cards, unpriced = await asyncio.to_thread(rate_cards, routing.deployments(), cache_dir=cache_dir)
    async with open_client(settings, routing) as http:
        missing = await never_called(settings, routing, unpriced, http)
    return await plan_shown(
        asked,
        routing,
        cards=cards,
        missing=missing,
        why_no_key=Keys(key_variable, in_use=settings.uses_keys).why_none,
        view=looked.view,
    )


async def _look(settings: WorkerSettings, file: Path | None, tenant: str) -> Looked:
    """The routing to plan by, and how its deployments stand. Raises ConfigError."""
    fleet, source, said = None, None, ""
    if file is None:
        try:
            fleet = await fleet_routing(settings)
            why = "no worker has begun with one yet"
        except LedgerUnavailable as error:
            why = str(error)
        source = fleet.source if fleet else None
        said = fleet.said() if fleet else f"the fleet's is not known: {why}"
    routing, _source = load_source(source or source_of(file or settings.routing_path))
    of_file = "" if source else f"version {routing.version} of {file or settings.routing_path}"
    health = await _health(settings, routing, routing.tenant(tenant))
    return Looked(routing, fleet, "; ".join(part for part in (of_file, said) if part), health)


async def _health(settings: WorkerSettings, routing: RoutingFile, tenant: Tenant | None) -> View | None:
    """As this tenant's calls would find it."""
    known = tuple(routing.deployments().values())
    try:
        async with open_health(settings) as health:
            view = await health.look(known)
            if tenant is None or not tenant.keys:
                return view
            own = await health.look(
                [one for one in known if one.provider.name in tenant.keys], whose=tenant.name
            )
            return with_own(view, own, tenant.keys)
    except redis.exceptions.RedisError:
        return None


def _told(asked: Asked, looked: Looked, plan: ShownPlan) -> dict[str, Any]:
    tenant = looked.routing.tenant(asked.tenant)
    return {
        "version": looked.routing.version,
        "number": looked.fleet.in_force.number if looked.fleet else None,
        "tenant": asked.tenant,
        "tier": tenant.tier.name if tenant else None,
        "task": asked.task,
        "aliases": plan.aliases,
        "denied": plan.denied,
        "input_tokens": asked.input_tokens,
        "max_output_tokens": plan.max_output_tokens,
        "limits": plan.limits,
        "calls": [call_told(call, plan, input_tokens=asked.input_tokens) for call in plan.calls],
        "left_out": [{"deployment": name, "reason": reason} for name, reason in plan.left_out],
        "health_known": looked.view is not None,
        "wait_s": plan.wait_s,
        "error": plan.error.model_dump(mode="json") if plan.error else None,
    }


def _tell(asked: Asked, looked: Looked, plan: ShownPlan) -> None:
    told = _told(asked, looked, plan)
    click.echo(f"Routing: {looked.said}.")
    if plan.error and not plan.aliases:
        click.echo(f"The job would end as {plan.error.code}: {plan.error.message}.")
        return
    limits = ", ".join(f"{name} {value}" for name, value in plan.limits.items())
    aliases = ", ".join(
        alias if plan.strategies[alias] == "weighted" else f"{alias} ({plan.strategies[alias]})"
        for alias in plan.aliases
    )
    click.echo(f"Tenant {asked.tenant} of tier {told['tier']}, task {asked.task}: {aliases}.")
    answer = f"Up to {plan.max_output_tokens} tokens of answer" if plan.max_output_tokens else "Vectors"
    click.echo(f"{answer}; {limits}.")
    if plan.calls:
        _tell_calls(told)
    for name, reason in plan.left_out:
        click.echo(f"left out  {name}: {reason}")
    if looked.view is None:
        click.echo(NO_HEALTH)
    if plan.wait_s is not None:
        click.echo(f"The job would go back to its lane for {plan.wait_s:.0f} s.")
    if plan.error:
        click.echo(f"The job would end as {plan.error.code}: {plan.error.message}.")


def _tell_calls(told: dict[str, Any]) -> None:
    latency = any(call["latency_ms"] is not None for call in told["calls"])
    columns = (
        "",
        "deployment",
        "alias",
        "first",
        "USD at least",
        "at most",
        *(["ms"] if latency else []),
        "note",
    )
    rows = [
        (
            number,
            call["deployment"],
            call["alias"],
            None if call["first_share"] is None else f"{call['first_share']:.0%}",
            f"{call['cost_low_usd'].normalize():f}",
            f"{call['cost_high_usd'].normalize():f}",
            *([call["latency_ms"]] if latency else []),
            _noted(call),
        )
        for number, call in enumerate(told["calls"], start=1)
    ]
    print_table(columns, rows)


def _noted(call: dict[str, Any]) -> str | None:
    tried = f"tried though {call['tried_though']}" if call["tried_though"] else None
    return ", ".join(filter(None, ("with its own key" if call["own_key"] else None, tried))) or None
