"""Attempts against the twin, built as the pipeline builds them, and a crossing that breaks the call at a point."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx

from producer_sdk.contract import Crossing, Job, Message
from producer_sdk.settings import FleetSettings
from worker.embedded.twin import TWIN_PRICES, Twin
from worker.embedded.twin.books import Call
from worker.job_run import Answer, Attempt, JobRun, Lease, PlannedCall
from worker.providers.client import open_client
from worker.providers.keys import Keys
from worker.providers.step import CallProvider
from worker.rate_card import RateCard
from worker.routing_file import (
    Deployment,
    Dialect,
    EmbeddingLimits,
    Provider,
    RoutingFile,
    TaskRule,
)
from worker.settings import WorkerSettings

T = TypeVar("T")
HIGHEST_PICO = 10**12
_NO_ROUTING = RoutingFile(version="test", providers={}, aliases={}, tasks={}, tiers={}, tenants={})


def card(model: str) -> RateCard:
    """The twin's price as a rate card."""
    price = TWIN_PRICES[model]
    return RateCard.flat(
        model, "twin", price.input, price.output, price.cache_read, price.cache_write, price.cache_write_long
    )


def attempt(
    base_url: str,
    dialect: Dialect = "openai",
    *,
    model: str = "twin-small",
    messages: Any = "Where is my card?",
    timeout_s: float = 10.0,
    max_output_tokens: int = 200,
    lease_s: float = 60.0,
    rate_card: RateCard | None = None,
    service_tier: str | None = None,
    **params: Any,
) -> Attempt:
    """One attempt of a job of the tenant acme; a str is one user message."""
    given = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    job = Job.model_validate({"tenant": "acme", "task": "answer", "messages": given, "params": params})
    job_run = JobRun(job=job, lease=Lease("tag", time.monotonic() + lease_s), routing=_NO_ROUTING)
    job_run.messages = tuple(job.messages)
    job_run.max_output_tokens = max_output_tokens
    provider = Provider(f"twin-{dialect}", dialect, base_url, key_env="TWIN_KEY")
    deployment = Deployment(
        f"{provider.name}/{model}", provider, model, 100_000, 4_096, service_tier=service_tier
    )
    call = PlannedCall(
        deployment,
        "fast-small",
        rate_card or card(model if model in TWIN_PRICES else "twin-small"),
        HIGHEST_PICO,
    )
    return Attempt(job_run, call, number=1, timeout_s=timeout_s)


def embedding(
    base_url: str,
    dialect: Dialect = "openai",
    *,
    inputs: Sequence[str] = ("one", "two"),
    dimensions: int | None = None,
    own_dimensions: int = 256,
    timeout_s: float = 10.0,
    lease_s: float = 60.0,
    routing: RoutingFile = _NO_ROUTING,
) -> Attempt:
    """One attempt of a job of acme's that makes vectors; the model's own length is `own_dimensions`."""
    fields = {"tenant": "acme", "task": "embed", "inputs": list(inputs), "params": {"dimensions": dimensions}}
    job_run = JobRun(Job.model_validate(fields), Lease("tag", time.monotonic() + lease_s), routing)
    job_run.task = TaskRule("embed", "embed", kind="embedding")
    provider = Provider(f"twin-{dialect}", dialect, base_url, key_env="TWIN_KEY")
    limits = EmbeddingLimits(own_dimensions, 1, 2_048, "twin-embed")
    name = f"{provider.name}/twin-embed"
    deployment = Deployment(name, provider, "twin-embed", 8_192, 0, embedding=limits)
    call = PlannedCall(deployment, "embed", card("twin-embed"), HIGHEST_PICO)
    return Attempt(job_run, call, number=1, timeout_s=timeout_s)


def settings(**changes: Any) -> WorkerSettings:
    """Settings of a worker that calls providers and nothing else."""
    fleet = FleetSettings(broker_url="redis://localhost:1/0")
    given = {"connect_timeout_s": 5.0, **changes}
    return WorkerSettings(fleet, "sqlite://", Path("routing.yaml"), Path(), "w1", **given)


async def run(
    one: Attempt,
    *,
    crossing: Crossing | None = None,
    keys: Keys | None = None,
    local_url: str | None = None,
) -> Answer:
    """Carry one attempt through a CallProvider of its own, over real HTTP; without `keys` it carries no key."""
    async with open_client(settings()) as client:
        step = CallProvider(client=client, keys=keys, crossing=crossing, local_url=local_url)
        return await step.run(one, no_proceed)


def key(value: str) -> Keys:
    """The key of every provider of these tests."""
    return Keys({"TWIN_KEY": value}.get)


async def no_proceed(_attempt: Attempt) -> Answer:
    """CallProvider is the last step."""
    raise AssertionError("the last step of a pipeline does not proceed")


async def behave(twin: Twin, *rules: dict[str, Any]) -> None:
    """Tell the twin over HTTP how to behave."""
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.post(f"{twin.url}/twin/behave", json=list(rules))).raise_for_status()


async def booked(twin: Twin, attempt_id: UUID, *, within_s: float = 5.0) -> Call:
    """What the twin has in its books for an attempt, once the call is over."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = [call for call in twin.books.calls() if call.attempt == str(attempt_id)]
        if found and found[-1].finished != "open":
            return found[-1]
        await asyncio.sleep(0.01)
    raise AssertionError(f"the twin did not close the call within {within_s:g} s")


def system_and_user(system: str, user: str, **fields: Any) -> list[Message]:
    """A static prompt and a question."""
    return [Message(role="system", content=system, **fields), Message(role="user", content=user)]


class BreakAt:
    """A crossing that records every point and breaks the connection at one of them."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.seen: list[str] = []

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """Walk through, or break."""
        self.seen.append(name)
        if name == self.name:
            raise httpx.ReadError("broken by the test")
        return await do()

    def cross_blocking(self, name: str, do: Callable[[], T]) -> T:
        """Not used by a provider call."""
        self.seen.append(name)
        return do()
