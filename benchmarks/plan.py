"""What laying down a job's plan costs with 50 deployments, by each strategy."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import get_args
from uuid import UUID

from benchmarks.rig import table
from producer_sdk.contract import Job, Usage
from worker.job_run import Answer, JobRun, Lease
from worker.rate_card import RateCard
from worker.routing import rules
from worker.routing.step import PlanRoute
from worker.routing.tokens import InputBound
from worker.routing_file import Deployment, Provider, RoutingFile, Strategy, TaskRule, Tenant, Tier
from worker.speed import Speed

DEPLOYMENTS, JOBS, WARM = 50, 4_000, 200
MEASURED = 40  # of the deployments have a speed
MESSAGE = (
    "Which of these intents does the customer have: a refund, a complaint, or a question about a parcel?"
)


@dataclass(frozen=True)
class Case:
    """50 deployments of 5 providers, in two aliases, with prices and speeds that all differ."""

    routing: RoutingFile
    cards: Mapping[str, RateCard]
    speeds: Mapping[str, Speed]
    bounds: Mapping[str, InputBound]


def case_of(strategy: Strategy) -> Case:
    """Both aliases ordered by this strategy."""
    providers = [Provider(f"p{n}", ("openai", "anthropic")[n % 2], f"https://p{n}.example") for n in range(5)]
    deployments = [
        Deployment(f"p{n % 5}/m{n}", providers[n % 5], f"m{n}", 128_000, 8_192, weight=1 + n % 4)
        for n in range(DEPLOYMENTS)
    ]
    half = DEPLOYMENTS // 2
    aliases = {"first": tuple(deployments[:half]), "second": tuple(deployments[half:])}
    tier = Tier("pro")
    routing = RoutingFile(
        version="1",
        providers={one.name: one for one in providers},
        aliases=aliases,
        tasks={
            "ask": TaskRule("ask", "first", ("second",), max_latency_ms=30_000, max_cost_usd=Decimal("0.5"))
        },
        tiers={"pro": tier},
        tenants={"acme": Tenant("acme", tier)},
        strategies={name: strategy for name in aliases if strategy != "weighted"},
    )
    return Case(
        routing,
        {
            d.name: RateCard.flat(d.model, "bench", 100_000 + n, 400_000 - n, 10_000, 125_000)
            for n, d in enumerate(deployments)
        },
        {d.name: Speed(20, 200.0 + 13 * n, 9.0, 80.0, 5.0) for n, d in enumerate(deployments[:MEASURED])},
        {d.name: InputBound(180 + n % 3, 20) for n, d in enumerate(deployments)},
    )


def job_run_of(case: Case, number: int) -> JobRun:
    """One job as the steps before leave it."""
    job = Job.model_validate(
        {"tenant": "acme", "task": "ask", "messages": MESSAGE, "job_id": UUID(int=number)}
    )
    task = case.routing.tasks["ask"]
    lease = Lease("tag", confirmed_until=float("inf"))
    return JobRun(
        job=job,
        lease=lease,
        routing=case.routing,
        tenant=case.routing.tenants["acme"],
        task=task,
        aliases=(task.default, *task.fallback),
        max_output_tokens=1_024,
        messages=tuple(job.messages),
    )


def plan(case: Case, job_run: JobRun) -> None:
    """The rule alone: orders, costs, forecasts, and what is left out."""
    planned = rules.plan(
        job_run, cards=case.cards, missing={}, bounds=case.bounds, speeds=case.speeds, left_ms=30_000
    )
    assert len(planned.plan.calls) == DEPLOYMENTS


def arithmetic(case: Case, _job_run: JobRun) -> None:
    """What no plan can do without: the highest cost and the predicted one of each, by its card."""
    usage = Usage(input_tokens=180, output_tokens=1_024)
    for card in case.cards.values():
        card.highest(input_tokens=180, output_tokens=1_024)
        card.cost(usage)


def milliseconds(do: Callable[[Case, JobRun], None], case: Case) -> list[float]:
    """Processor time of each of JOBS jobs, sorted: other work on the machine does not count."""
    job_runs = [job_run_of(case, number) for number in range(JOBS + WARM)]
    found = []
    for job_run in job_runs:
        began = time.thread_time_ns()
        do(case, job_run)
        found.append((time.thread_time_ns() - began) / 1e6)
    return sorted(found[WARM:])


async def step_ms(case: Case) -> list[float]:
    """The same of the whole step PlanRoute, which bounds the input too."""

    async def speeds(_tenant: object, _deployments: object) -> Mapping[str, Speed]:
        return case.speeds

    async def proceed(_job_run: JobRun) -> Answer:
        return Answer("", Usage(), "", "", "", cost_pico=0, latency_ms=0)

    step, found = PlanRoute(cards=case.cards, missing={}, speeds=speeds), []
    for job_run in [job_run_of(case, number) for number in range(JOBS // 4 + WARM)]:
        began = time.thread_time_ns()
        await step.run(job_run, proceed)
        found.append((time.thread_time_ns() - began) / 1e6)
    return sorted(found[WARM:])


def run() -> str:
    """The table: each strategy, and the arithmetic of the money alone."""
    rows = [["strategy", "median ms (< 0.5)", "p99 ms", "÷ the costs alone", "whole step, median ms"]]
    base = statistics.median(milliseconds(arithmetic, case_of("weighted")))
    rows.append(["the costs alone", f"{base:.3f}", "", "1.0", ""])
    for strategy in get_args(Strategy):
        case = case_of(strategy)
        times = milliseconds(plan, case)
        median, p99 = statistics.median(times), times[int(len(times) * 0.99)]
        whole = statistics.median(asyncio.run(step_ms(case)))
        rows.append([strategy, f"{median:.3f}", f"{p99:.3f}", f"{median / base:.1f}", f"{whole:.3f}"])
    return table(f"The plan of a job with {DEPLOYMENTS} deployments ({JOBS:,} jobs, processor time)", rows)


if __name__ == "__main__":
    print(run())
