"""PlanRoute: the plan is laid down, or the job ends with the reason."""

from __future__ import annotations

import pytest

from producer_sdk.contract import ErrorCode
from tests.worker.job_runs import Rest, card, run_of
from worker.errors import JobStopped
from worker.routing.step import PlanRoute


async def test_a_job_goes_on_with_its_plan():
    job_run, rest = run_of(), Rest()
    await PlanRoute(cards={"local/s": card(), "local/l": card()}, missing={}).run(job_run, rest)
    assert rest.saw == [job_run]
    assert [call.deployment.name for call in job_run.plan.calls] == ["local/s", "local/l"]


async def test_a_job_without_a_deployment_ends_and_keeps_the_reasons():
    job_run, rest = run_of(), Rest()
    with pytest.raises(JobStopped) as stopped:
        await PlanRoute(cards={}, missing={"local/s": "no LOCAL_KEY"}).run(job_run, rest)
    assert stopped.value.error.code == ErrorCode.PROVIDER_UNAVAILABLE
    assert stopped.value.error.reason == "no_deployment"
    assert job_run.plan.left_out == (("local/s", "no LOCAL_KEY"), ("local/l", "no price"))
    assert rest.saw == []
