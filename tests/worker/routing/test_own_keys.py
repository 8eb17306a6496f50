"""Plans of tenants with keys of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.worker.job_runs import CLOUD, Rest, card, deployment, routing_of, run_of, usd
from worker.cli.story_words import said
from worker.errors import JobStopped
from worker.job_run import JobRun
from worker.providers.keys import Keys
from worker.routing.step import PlanRoute
from worker.routing_file import KeySource

CARDS = {"local/s": card(), "cloud/l": card(100)}
OWN = {"cloud": KeySource(env="ACME_KEY")}


def asked(**tenant) -> JobRun:
    routing = routing_of(aliases={"small": (deployment("s"),), "large": (deployment("l", provider=CLOUD),)})
    return run_of(routing=routing, tenant=replace(routing.tenants["acme"], **tenant))


async def planned(job_run: JobRun, **keys: str) -> JobRun:
    plan = PlanRoute(cards=CARDS, missing={}, why_no_key=Keys(keys.get).why_none)
    await plan.run(job_run, Rest())
    return job_run


async def test_a_call_with_a_tenants_own_key_may_cost_nothing_of_ours():
    job_run = await planned(asked(keys=OWN), ACME_KEY="theirs")
    local, cloud = job_run.plan.calls
    assert (local.own_key, local.highest_pico > 0) == (False, True)
    assert (cloud.own_key, cloud.highest_pico) == (True, 0)
    longer = await PlanRoute(cards=CARDS, missing={}).followed_up(job_run, cloud, ())
    assert longer
    assert (longer.own_key, longer.highest_pico) == (True, 0)


async def test_a_tasks_cost_limit_holds_at_list_for_a_call_with_a_tenants_own_key():
    job_run = asked(keys=OWN)
    job_run.task = replace(job_run.known_task(), max_cost_usd=usd("0.00000001"))
    await planned(job_run, ACME_KEY="theirs")
    assert [call.deployment.name for call in job_run.plan.calls] == ["local/s"]
    assert "too dear" in job_run.plan.left_out[0][1]


async def test_a_tenants_own_key_that_is_missing_leaves_its_provider_out_though_we_have_one():
    job_run = await planned(asked(keys=OWN), CLOUD_API_KEY="ours")
    assert [call.deployment.name for call in job_run.plan.calls] == ["local/s"]
    assert job_run.plan.left_out == (("cloud/l", "no ACME_KEY (the tenant's own key)"),)
    ours = await planned(asked(), CLOUD_API_KEY="ours")
    assert [call.own_key for call in ours.plan.calls] == [False, False]


async def test_a_tenant_of_own_keys_only_is_planned_nowhere_else():
    job_run = await planned(asked(keys=OWN, own_keys_only=True), ACME_KEY="theirs", CLOUD_API_KEY="ours")
    assert [call.deployment.name for call in job_run.plan.calls] == ["cloud/l"]
    with pytest.raises(JobStopped) as stopped:
        await planned(asked(keys=OWN, own_keys_only=True), CLOUD_API_KEY="ours")
    assert "no ACME_KEY (the tenant's own key)" in stopped.value.error.message
    assert stopped.value.error.reason == "no_deployment"


async def test_the_story_says_which_call_the_tenants_own_key_pays_for():
    job_run = await planned(asked(keys=OWN), ACME_KEY="theirs")
    [event] = job_run.story.told
    local, cloud = event.facts["calls"]
    assert ("own_key" in local, cloud["own_key"], cloud["highest_usd"]) == (False, True, "0")
    assert said(event)[2] == "2. cloud/l (large), $0 at most, with the tenant's own key"
