"""Agents that run away, against whole workers: the incident of two agents that talk for ever, and a storm of retries.

The incident: two agents handed a task to each other for eleven days, their conversation growing all the while.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer_sdk import AsyncFleet, JobEnded
from producer_sdk.contract import ErrorCode, JobError, Message
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import SLOW, Stage
from tests.servers import Valkey
from worker.retries.rules import LEAST_ANSWER_MS

MOST_CALLS = 50
AGENTS, STORM_S = 10, 3.0
LEAST_S = LEAST_ANSWER_MS / 1000
PER_MIN = 12
BUDGET_PICO = 10**9  # stormy's
FAILING = "[what always fails]"
CAPS = {"run_max_calls": 45, "run_max_repeats": 5}
TENANTS = {
    "capped": {"tier": "pro", **CAPS},
    "thrifty": {"tier": "pro", "run_budget_usd": 0.002},
    "stormy": {"tier": "pro", "retries_per_min": PER_MIN, "daily_budget_usd": 0.001},
    "calm": {"tier": "pro"},
}


@pytest.fixture
async def scene(stage: Stage, tmp_path: Path) -> AsyncIterator[Scene]:
    """One worker, tenants with caps, and a provider at which one text always fails, billed."""
    routing = yaml.safe_load(ROUTING.read_text())
    routing["tenants"] = TENANTS
    (tmp_path / "routing.yaml").write_text(yaml.safe_dump(routing))
    async with stage.scene(routing_path=tmp_path / "routing.yaml") as found:
        await found.behave({"match": {"contains": FAILING}, "status": 500, "bill": True})
        stage.worker(found)
        yield found


def always_the_same(_number: int) -> str:
    return "I have done my part. Please check it and tell me what is missing."


def always_new(number: int) -> str:
    return f"Remark {number}: {'more ' * (number % 7)}of it, please."


@pytest.mark.parametrize(
    ("tenant", "says", "guard"),
    [
        ("capped", always_the_same, ("loop_detected", "repeats")),
        ("capped", always_new, ("run_cap", "calls")),
        ("thrifty", always_new, ("budget_exceeded", "window_spent")),
    ],
)
async def test_two_agents_that_talk_for_ever_are_stopped_by_a_named_guard(
    scene: Scene, tenant: str, says: Callable[[int], str], guard: tuple[str, str]
) -> None:
    """Each agent is a run of its own, below the run that a human began; each reads all that was said."""
    history = [Message(role="user", content="Write the market report")]
    ended: JobError | None = None
    async with AsyncFleet(scene.settings.fleet) as fleet:
        for number in range(MOST_CALLS):
            agent = ("writer", "critic")[number % 2]
            try:
                await fleet.run(
                    tenant=tenant,
                    task="ask_second",
                    run_id=f"report-{agent}",
                    parent_run_id="report",
                    depth=1,
                    messages=list(history),
                    timeout=30,
                )
            except JobEnded as error:
                ended = error.error
                break
            history.append(Message(role="assistant" if number % 2 else "user", content=says(number)))
    assert ended is not None, "nothing has stopped them"
    assert (ended.code, ended.reason) == guard
    assert "run" in ended.message or "report" in ended.message
    assert 1 < len(await scene.calls()) < MOST_CALLS


async def storm(fleet: AsyncFleet, until_s: float, ends: Counter[str | None], **job: Any) -> None:
    """An agent that submits the same again as soon as it has failed."""
    while time.monotonic() < until_s:
        try:
            await fleet.run(timeout=30, **job)
            ends["succeeded"] += 1
        except JobEnded as error:
            ends[error.error.reason if error.error.code == ErrorCode.RETRY_CAP else error.error.code] += 1


async def test_a_storm_of_resubmissions_costs_its_tenant_no_more_than_its_retries(scene: Scene) -> None:
    failing = {"tenant": "stormy", "task": "ask_first", "messages": FAILING}
    ends: Counter[str | None] = Counter()
    async with AsyncFleet(scene.settings.fleet) as fleet:
        began = time.monotonic()
        with pytest.raises(JobEnded):
            await fleet.run(timeout=30, **failing)
        end = time.monotonic() + STORM_S
        await asyncio.gather(*(storm(fleet, end, ends, **failing) for _ in range(AGENTS)))
        passed_s = time.monotonic() - began
        calm = await fleet.run(tenant="calm", task="ask_first", messages="And I?", timeout=30)
    cap = PER_MIN + math.ceil(PER_MIN * passed_s / 60)
    calls = [call for call in await scene.calls() if call["status"] == 500]
    assert PER_MIN < len(calls) <= 1 + cap
    assert "breaker" not in scene.logs, "its deployment is closed to nobody"
    assert AGENTS <= ends["resubmitted"] <= AGENTS * math.ceil(STORM_S / LEAST_S)
    assert set(ends) <= {"resubmitted", "fallback", "provider_unavailable"}
    await until(scene.is_at_rest, what="rest")
    assert 0 < sum(row.cost_pico for row in scene.rows.events()) <= BUDGET_PICO
    assert calm.text


async def test_a_job_that_ran_into_its_time_limit_is_a_retry_when_it_comes_again(
    stage: Stage, tmp_path: Path
) -> None:
    routing = yaml.safe_load(ROUTING.read_text())
    routing["tenants"] = {"hasty": {"tier": "pro", "retries_per_min": 1}}
    (tmp_path / "routing.yaml").write_text(yaml.safe_dump(routing))
    job = {"tenant": "hasty", "task": "ask_first", "messages": SLOW, "timeout": 30}
    ends = []
    async with stage.scene(routing_path=tmp_path / "routing.yaml", soft_limit_s=0.3) as scene:
        stage.worker(scene)
        async with AsyncFleet(scene.settings.fleet) as fleet:
            for _ in range(3):
                with pytest.raises(JobEnded) as ended:
                    await fleet.run(**job)
                ends.append(ended.value.error.code)
    assert ends == ["deadline_exceeded", "deadline_exceeded", "retry_cap"]


async def test_a_run_is_capped_all_the_same_when_the_broker_is_flushed_in_the_middle_of_it(
    stage: Stage, own_valkey: Valkey, tmp_path: Path
) -> None:
    routing = yaml.safe_load(ROUTING.read_text())
    routing["tenants"] = {"capped": {"tier": "pro", "run_max_calls": 8}}
    (tmp_path / "routing.yaml").write_text(yaml.safe_dump(routing))
    ends: list[str] = []
    async with stage.scene(valkey=own_valkey, routing_path=tmp_path / "routing.yaml") as scene:
        stage.worker(scene)
        async with AsyncFleet(scene.settings.fleet) as fleet:
            for number in range(12):
                if number == 5:
                    await until(scene.is_at_rest, what="rest")
                    await scene.redis.flushall()
                job = {"tenant": "capped", "task": "ask_first", "messages": always_new(number)}
                try:
                    await fleet.run(run_id=f"part-{number}", parent_run_id="whole", timeout=30, **job)
                    ends.append("succeeded")
                except JobEnded as error:
                    ends.append(str(error.error.code))
        assert len(await scene.calls()) == 8
    assert ends == ["succeeded"] * 8 + ["run_cap"] * 4
