"""The policy steps: what they fill in, and the jobs they end."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from producer_sdk.contract import ErrorCode
from tests.worker.job_runs import Rest, fresh_run, job_of, routing_of
from worker.errors import JobStopped
from worker.job_run import utc_now
from worker.policy.step import ApplyPolicy, EndStopped
from worker.routing_file import TaskRule


async def test_a_job_leaves_policy_with_its_tenant_task_aliases_and_limits():
    job_run, rest = fresh_run(job_of()), Rest()
    await ApplyPolicy().run(job_run, rest)
    assert rest.saw == [job_run]
    assert (job_run.known_tenant().name, job_run.known_task().name) == ("acme", "ask")
    assert (job_run.aliases, job_run.max_output_tokens) == (("small", "large"), 100)
    assert job_run.remaining_s() == float("inf")


async def test_the_tasks_latency_counts_from_when_the_worker_began():
    routing = routing_of(tasks={"ask": TaskRule("ask", "small", max_latency_ms=2000)})
    job_run = fresh_run(job_of(), routing)
    job_run.started = time.monotonic() - 1.5
    await ApplyPolicy().run(job_run, Rest())
    assert 0.3 < job_run.remaining_s() < 0.55


async def test_a_jobs_own_deadline_holds_too():
    job_run = fresh_run(job_of(deadline=utc_now() + timedelta(seconds=30)))
    await ApplyPolicy().run(job_run, Rest())
    assert 25 < job_run.remaining_s() <= 30


@pytest.mark.parametrize(("unresolved", "code"), [(0, ErrorCode.EXPIRED), (1, ErrorCode.UNCERTAIN)])
async def test_a_job_past_its_deadline_is_not_called(unresolved, code):
    job_run = fresh_run(job_of(deadline=utc_now() - timedelta(seconds=1)), unresolved_attempts=unresolved)
    rest = Rest()
    with pytest.raises(JobStopped) as stopped:
        await ApplyPolicy().run(job_run, rest)
    assert (stopped.value.error.code, rest.saw) == (code, [])


async def test_an_unknown_tenant_ends_as_a_rejection():
    with pytest.raises(JobStopped) as stopped:
        await ApplyPolicy().run(fresh_run(job_of(tenant="acne")), Rest())
    assert stopped.value.error.code == ErrorCode.UNKNOWN_TENANT


async def test_what_the_lane_stopped_ends_and_everything_else_goes_on():
    rest = Rest()
    await EndStopped().run(fresh_run(job_of()), rest)
    assert len(rest.saw) == 1
    with pytest.raises(JobStopped) as stopped:
        await EndStopped().run(fresh_run(job_of(), stop="cancelled"), rest)
    assert (stopped.value.error.code, len(rest.saw)) == (ErrorCode.CANCELLED, 1)
