"""Job runs and routing files for the rooms' tests: real values, small numbers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from producer_sdk.contract import Document, Job, Message, Usage
from worker.job_run import Answer, Attempt, JobRun, Lease
from worker.rate_card import RateCard
from worker.routing_file import Deployment, Provider, RoutingFile, TaskRule, Tenant, Tier

REPO = Path(__file__).parent.parent.parent
LOCAL = Provider("local", "openai", "http://127.0.0.1:1")
CLOUD = Provider("cloud", "anthropic", "https://cloud.example", key_env="CLOUD_API_KEY")


def deployment(
    name: str, *, provider: Provider = LOCAL, weight: int = 1, context_tokens: int = 8_000
) -> Deployment:
    """A deployment `provider/name`."""
    return Deployment(f"{provider.name}/{name}", provider, name, context_tokens, 1_000, weight)


def card(price: int = 10) -> RateCard:
    """Every token at one price, in pico-dollars."""
    return RateCard.flat("any", "test", input=price, output=price, cache_read=price, cache_write=price)


def routing_of(**changes: Any) -> RoutingFile:
    """A small routing file: two aliases of one deployment each, one task, one tier, one tenant."""
    tier = Tier("free", max_output_tokens=100, retries_per_min=2)
    whole = RoutingFile(
        version="1",
        providers={"local": LOCAL, "cloud": CLOUD},
        aliases={"small": (deployment("s"),), "large": (deployment("l"),)},
        tasks={"ask": TaskRule("ask", "small", ("large",))},
        tiers={"free": tier},
        tenants={"acme": Tenant("acme", tier)},
    )
    return replace(whole, **changes)


def job_of(text: str = "hello", **fields: Any) -> Job:
    """A job of acme's that asks one thing, unless the fields say otherwise."""
    whole: dict[str, Any] = {
        "tenant": "acme",
        "task": "ask",
        "messages": [Message(role="user", content=text)],
    }
    return Job(**{**whole, **fields})


def run_of(job: Job | None = None, *, routing: RoutingFile | None = None, **fields: Any) -> JobRun:
    """A job run as policy and safety leave it."""
    job, routing = job or job_of(), routing or routing_of()
    task = routing.tasks[job.task]
    filled: dict[str, Any] = {
        "tenant": routing.tenants[job.tenant],
        "task": task,
        "aliases": (task.default, *task.fallback),
        "max_output_tokens": 100,
        "messages": tuple(job.messages),
    }
    lease = Lease("tag", confirmed_until=float("inf"))
    return JobRun(job=job, lease=lease, routing=routing, **{**filled, **fields})


def fresh_run(job: Job, routing: RoutingFile | None = None, **fields: Any) -> JobRun:
    """A job run as the worker begins it: no step has filled anything in."""
    lease = Lease("tag", confirmed_until=float("inf"))
    return JobRun(job=job, lease=lease, routing=routing or routing_of(), **fields)


def answer_of(text: str = "yes", *, cost_pico: int = 500, **fields: Any) -> Answer:
    """A model's answer."""
    usage = Usage(input_tokens=10, output_tokens=2)
    return Answer(text, usage, "s", "local", "local/s", cost_pico, latency_ms=3, **fields)


def document(text: str, number: int = 1, **fields: Any) -> Document:
    """A document called d1, d2 …"""
    return Document(id=f"d{number}", text=text, **fields)


def usd(text: str) -> Decimal:
    """An amount in USD."""
    return Decimal(text)


class Rest:
    """Stands for the rest of the pipeline: answers, or raises what it was given, and counts its calls."""

    def __init__(self, *outcomes: Answer | Exception) -> None:
        self.outcomes = list(outcomes) or [answer_of()]
        self.saw: list[Any] = []

    async def __call__(self, run: JobRun | Attempt) -> Answer:
        self.saw.append(run)
        outcome = self.outcomes[min(len(self.saw), len(self.outcomes)) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
