"""CapRun on a real Valkey: what it lets through, what it ends, and what a stop finds."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import redis.asyncio

from producer_sdk.contract import ErrorCode, Job, Message
from producer_sdk.contract.envelope import pack
from tests.worker.job_runs import Rest, document, job_of, routing_of, run_of
from worker.errors import HandBack, JobStopped
from worker.job_run import JobRun, utc_now
from worker.ledger.run_history import RunHistory
from worker.routing_file import RoutingFile, Tenant, Tier
from worker.runs.step import CapRun
from worker.runs.store import Runs

CAPS = {"run_max_calls": 40, "run_max_depth": 3, "run_max_repeats": 4}
PARENTS = {"child": ("root",), "grandchild": ("child", "root")}


async def above(job: Job) -> tuple[str, ...]:
    """The tree that these tests know."""
    return (job.run_id, *PARENTS.get(job.run_id, ())) if job.run_id else ()


async def new_runs(tenant: str, run_id: str, *, since: datetime, with_messages: bool) -> RunHistory:
    """A ledger that knows no run."""
    assert since < utc_now()
    return RunHistory()


@pytest.fixture
def runs(client: redis.asyncio.Redis, namespace: str) -> Runs:
    return Runs(client, namespace=namespace)


@pytest.fixture
def step(runs: Runs) -> CapRun:
    return CapRun(runs, above=above, history=new_runs)


def capped(**caps: int) -> RoutingFile:
    """acme's tier with these caps."""
    return routing_of(tenants={"acme": Tenant("acme", replace(Tier("free"), **(caps or CAPS)))})


def job_run(text: str = "hello", *, caps: dict[str, int] | None = None, put_ms: int = 0, **fields) -> JobRun:
    """A job of run r."""
    routing = capped(**(caps or {}))
    return run_of(job_of(text, **{"run_id": "r", **fields}), routing=routing, put_ms=put_ms)


async def calls_until_stopped(
    step: CapRun, make: Callable[[int], Awaitable[JobRun] | JobRun], most: int = 100
) -> tuple[int, JobStopped]:
    """How many jobs went through before the first that did not, and how that one ended."""
    rest = Rest()
    for number in range(most):
        made = make(number)
        try:
            await step.run(made if isinstance(made, JobRun) else await made, rest)
        except JobStopped as stopped:
            return len(rest.saw), stopped
    raise AssertionError(f"nothing has stopped {most} jobs")


async def test_an_agent_that_asks_the_same_again_and_again_is_a_loop(step: CapRun):
    calls, stopped = await calls_until_stopped(step, lambda n: job_run(f"Attempt {n}: fix the build"))
    assert (calls, stopped.error.code, stopped.error.reason) == (4, ErrorCode.LOOP_DETECTED, "repeats")
    await step.run(job_run("something else"), Rest())


async def test_a_loop_spread_over_the_runs_below_one_is_found_there(step: CapRun):
    def alternate(number: int) -> JobRun:
        return job_run("You do it", run_id="child" if number % 2 else "grandchild")

    calls, stopped = await calls_until_stopped(step, alternate)
    assert (calls, stopped.error.code) == (4, ErrorCode.LOOP_DETECTED)


async def test_two_agents_whose_conversation_grows_are_a_loop(step: CapRun):
    history: list[Message] = [Message(role="user", content="Write the report")]

    def next_turn(number: int) -> JobRun:
        writes = number % 2 == 0
        history.append(
            Message(role="assistant" if writes else "user", content="Please review" if writes else "Redo")
        )
        return job_run(messages=list(history), feature="writer" if writes else "critic")

    calls, stopped = await calls_until_stopped(step, next_turn)
    assert (calls, stopped.error.code) == (2 * CAPS["run_max_repeats"] + 1, ErrorCode.LOOP_DETECTED)


@pytest.mark.parametrize("kind", ["documents", "inputs", "chat", "questions after a document"])
async def test_a_map_over_many_inputs_is_no_loop(step: CapRun, kind: str):
    def mapped(n: int) -> JobRun:
        caps = {"run_max_repeats": 4}
        if kind == "documents":
            return job_run("Summarise", documents=[document(f"Entry of 10:00:{n:02}")], caps=caps)
        if kind == "inputs":
            return job_run(f"Summarise page {n}", caps=caps)
        told = [("user", f"Text {n}"), ("assistant", "I have read it"), ("user", "Summarise")]
        if kind == "chat":
            told = [("user", "Be kind"), ("assistant", "Yes"), ("user", f"Chapter {n}, continue")]
        return job_run(messages=[Message(role=role, content=text) for role, text in told], caps=caps)

    rest = Rest()
    for number in range(60):
        await step.run(mapped(number), rest)
    assert len(rest.saw) == 60


async def test_a_run_ends_at_its_jobs_and_another_run_goes_on(step: CapRun):
    calls, stopped = await calls_until_stopped(step, lambda n: job_run(f"page {n}"))
    assert (calls, stopped.error.code, stopped.error.reason) == (40, ErrorCode.RUN_CAP, "calls")
    await step.run(job_run("page 1", run_id="other"), Rest())


async def test_a_job_too_deep_and_a_job_without_a_run(step: CapRun):
    with pytest.raises(JobStopped) as stopped:
        await step.run(job_run(run_id="grandchild", depth=4), Rest())
    assert (stopped.value.error.code, stopped.value.error.reason) == (ErrorCode.RUN_CAP, "depth")
    for _ in range(10):
        await step.run(job_run(run_id=None), Rest())


async def test_a_job_given_back_is_counted_once_and_found_by_a_stop(step: CapRun, runs: Runs):
    again = job_run(caps={"run_max_calls": 1})
    for _ in range(3):
        with pytest.raises(HandBack):
            await step.run(again, Rest(HandBack("later")))
    assert (await runs.stop("acme", "r", why="by hand")).job_ids == (str(again.job_id),)
    with pytest.raises(JobStopped) as stopped:
        await step.run(again, Rest())
    assert stopped.value.error.code == ErrorCode.CANCELLED
    assert (await runs.stop("acme", "r")).job_ids == ()


@pytest.mark.parametrize(
    "outcome", [JobStopped.of(ErrorCode.PROVIDER_UNAVAILABLE, "down"), ZeroDivisionError(), None]
)
async def test_a_job_that_has_ended_is_under_way_no_more(step: CapRun, runs: Runs, outcome: Exception | None):
    rest = Rest(outcome) if outcome else Rest()
    with contextlib.suppress(JobStopped, ZeroDivisionError):
        await step.run(job_run(), rest)
    assert len(rest.saw) == 1
    assert (await runs.stop("acme", "r")).job_ids == ()


async def test_what_is_put_after_a_stop_is_refused_though_its_run_is_below(step: CapRun, runs: Runs):
    until_ms = (await runs.stop("acme", "root", why="too dear")).until_ms
    with pytest.raises(JobStopped) as stopped:
        await step.run(job_run(run_id="grandchild", put_ms=until_ms), Rest())
    assert (stopped.value.error.code, stopped.value.error.reason) == (ErrorCode.RUN_CAP, "stopped")
    assert "run 'root' was stopped (too dear)" in stopped.value.error.message


def flushed(runs: Runs, *, jobs: list[Job], began: datetime | None = None, asked: list[str]) -> CapRun:
    """The step after FLUSHALL: the ledger knows these jobs of run r, the last of which has not ended."""

    async def history(tenant: str, run_id: str, *, since: datetime, with_messages: bool) -> RunHistory:
        asked.append(run_id)
        if run_id != "r":
            return RunHistory()
        messages = tuple(pack(job).message for job in jobs) if with_messages else ()
        return RunHistory(len(jobs), began or utc_now(), (str(jobs[-1].job_id),), (*messages, b"garbage"))

    return CapRun(runs, above=above, history=history)


async def test_a_run_that_redis_has_forgotten_is_counted_on_from_the_ledger(runs: Runs):
    asked: list[str] = []
    step = flushed(runs, jobs=[job_of(f"page {n}", run_id="r") for n in range(38)], asked=asked)
    calls, stopped = await calls_until_stopped(step, lambda n: job_run(f"page {40 + n}"))
    assert (calls, stopped.error.reason, asked) == (2, "calls", ["r"])


async def test_the_ledger_is_not_read_again_for_a_run_that_is_known_by_a_new_one_below_it(runs: Runs):
    asked: list[str] = []
    step = flushed(runs, jobs=[], asked=asked)
    for run_id in ("root", "child", "grandchild"):
        await step.run(job_run(run_id=run_id), Rest())
    assert asked == ["root", "child", "grandchild"]


async def test_a_loop_that_redis_has_forgotten_is_still_one(runs: Runs):
    step = flushed(runs, jobs=[job_of(f"Attempt {n}: fix it", run_id="r") for n in range(3)], asked=[])
    calls, stopped = await calls_until_stopped(step, lambda n: job_run(f"Attempt {3 + n}: fix it"))
    assert (calls, stopped.error.code) == (1, ErrorCode.LOOP_DETECTED)


async def test_a_runs_wall_time_is_counted_from_its_first_job_though_redis_has_forgotten_it(runs: Runs):
    began = utc_now() - timedelta(seconds=61)
    step = flushed(runs, jobs=[job_of(run_id="r")], began=began, asked=[])
    with pytest.raises(JobStopped) as stopped:
        await step.run(job_run(caps={"run_max_seconds": 60}), Rest())
    assert stopped.value.error.reason == "wall_time"


async def test_a_job_that_had_begun_before_redis_forgot_it_is_not_counted_again(runs: Runs):
    before = [job_of(f"page {n}", run_id="r") for n in range(40)]
    step = flushed(runs, jobs=before, asked=[])
    again = run_of(before[-1], routing=capped())
    assert (await step.run(again, Rest())).text == "yes"
    with pytest.raises(JobStopped):
        await step.run(job_run("page 40"), Rest())


async def test_a_tier_without_caps_asks_the_ledger_nothing(runs: Runs):
    asked: list[str] = []
    step = flushed(runs, jobs=[job_of(run_id="r")], asked=asked)
    await step.run(run_of(job_of(run_id="r"), routing=routing_of()), Rest())
    assert asked == []
