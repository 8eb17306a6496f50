"""`fairlane lanes` and `fairlane dead` over real lanes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

import pytest
import redis.asyncio
from click.testing import CliRunner, Result

from producer_sdk import Fleet, FleetSettings
from producer_sdk.contract import uuid7
from producer_sdk.lanes import Finished, Lanes, Limits, TenantLimits
from tests.producer_sdk.fake_worker import give_up_everything
from tests.producer_sdk.lanes.hall import job
from tests.servers import Valkey
from worker.cli.main import cli

Run = Callable[..., Result]
ASK = {"task": "classify", "messages": "A very private question"}


@pytest.fixture
def run(valkey: Valkey, namespace: str) -> Run:
    def run(*words: str, **more: str) -> Result:
        env = {"FAIRLANE_BROKER_URL": valkey.broker_url, "FAIRLANE_NAMESPACE": namespace, **more}
        return CliRunner().invoke(cli, list(words), env=env)

    return run


@pytest.fixture
def fleet(valkey: Valkey, namespace: str) -> Fleet:
    with Fleet(FleetSettings(valkey.broker_url, namespace)) as fleet:
        yield fleet


def with_lanes(valkey: Valkey, namespace: str, limits: TenantLimits, take: int = 0) -> None:
    """Set everybody's limits, and take so many jobs."""

    async def act() -> None:
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            lanes = Lanes(client, namespace=namespace)
            await lanes.set_limits(Limits(limits, {}))
            await lanes.take(take, worker="w", lease_ms=60_000, op_id=uuid7().hex)

    asyncio.run(act())


def test_what_looks_like_markup_or_moves_the_cursor_is_shown_as_text(run: Run, fleet: Fleet) -> None:
    fleet.submit(tenant="acme", **ASK)
    assert run("lanes", "pause", "acme", "--reason", "see [/ticket] [red]17\x1b[2J").exit_code == 0
    shown = run("lanes")
    assert shown.exit_code == 0, shown.exception
    assert "see [/ticket] [red]17\N{REPLACEMENT CHARACTER}[2J" in shown.stdout


def test_lanes_says_what_holds_each_tenant_up(run: Run, fleet: Fleet, valkey: Valkey, namespace: str) -> None:
    for tenant in ("acme", "globex", "initech"):
        fleet.submit_many([{"tenant": tenant, **ASK}] * 3)
    with_lanes(valkey, namespace, TenantLimits(concurrency=1), take=1)
    assert run("lanes", "pause", "globex", "--for", "90m", "--reason", "unpaid invoice").exit_code == 0
    shown = run("lanes").stdout
    assert "8 pending, 0 delayed, 1 running" in shown
    assert "its concurrency" in shown
    assert "(unpaid invoice)" in shown
    said = json.loads(run("lanes", "--json").stdout)
    assert {one["tenant"]: one["pending"] for one in said["queues"] if one["lane"] == "interactive"} == {
        "acme": 2,
        "globex": 3,
        "initech": 3,
    }
    with_lanes(valkey, namespace, TenantLimits(concurrency=9, requests_per_min=1, burst_s=1), take=9)
    assert re.search(r"requests_per_min, (60\.0|5\d\.\d) s more", run("lanes").stdout)


def test_a_pause_is_shown_though_its_tenant_has_no_work(run: Run) -> None:
    assert run("lanes", "pause", "acme").stdout == "acme: paused\n"
    assert "acme: paused" in run("lanes").stdout
    assert (run("lanes", "resume", "acme").exit_code, run("lanes", "resume", "acme").exit_code) == (0, 1)
    assert run("lanes", "pause", "acme", "--for", "a while").exit_code == 2


def test_another_number_of_shards_is_one_sentence(run: Run, fleet: Fleet) -> None:
    fleet.submit(tenant="acme", **ASK)
    refused = run("lanes", FAIRLANE_LANE_SHARDS="4")
    assert (refused.exit_code, refused.stderr) == (
        3,
        "fairlane: the fleet's lanes have 1 shards: set FAIRLANE_LANE_SHARDS=1\n",
    )


def test_dead_letters_are_listed_shown_replayed_and_purged(
    run: Run, fleet: Fleet, valkey: Valkey, namespace: str
) -> None:
    assert run("dead", "list").stdout == "There are no dead letters.\n"
    first = fleet.submit(tenant="acme", **ASK)
    second = fleet.submit(tenant="globex", **ASK)
    asyncio.run(give_up_everything(valkey, namespace))
    listed = json.loads(run("dead", "list", "--json").stdout)["dead"]
    assert {one["job_id"] for one in listed} == {str(first.job_id), str(second.job_id)}
    assert "it killed its workers" in run("dead", "list", "--tenant", "acme").stdout
    shown = run("dead", "show", str(first.job_id)).stdout
    assert "classify" in shown
    assert "private" not in shown
    assert "private" in run("dead", "show", str(first.job_id), "--content").stdout
    replayed = json.loads(run("dead", "replay", "--tenant", "acme", "--json").stdout)
    new_id = replayed["replayed"][str(first.job_id)]
    assert fleet.status(new_id) == "pending"
    assert run("dead", "purge").exit_code == 2
    assert json.loads(run("dead", "purge", "--all", "--json").stdout) == {"purged": 1}
    assert run("dead", "show", str(second.job_id)).exit_code == 3


def test_a_dead_letter_that_cannot_be_read_is_shown_and_stays(
    run: Run, valkey: Valkey, namespace: str
) -> None:
    async def bury() -> str:
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            lanes, name = Lanes(client, namespace=namespace), str(uuid7())
            await lanes.put([job(name)], ttl_s=60)
            reply = await lanes.take(1, worker="w", lease_ms=60_000, op_id="op")
            await lanes.finish([Finished(reply.deliveries[0].tag, None, 60, None, dead="not JSON")])
            return name

    name = asyncio.run(bury())
    assert "is not JSON" in run("dead", "show", name).stdout
    refused = run("dead", "replay", name)
    assert (refused.exit_code, "cannot be replayed" in refused.stdout) == (1, True)
    assert name in run("dead", "list").stdout


def test_a_letter_whose_id_no_job_can_have_can_be_purged(run: Run, valkey: Valkey, namespace: str) -> None:
    async def bury() -> None:
        async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
            lanes = Lanes(client, namespace=namespace)
            await lanes.put([job("garbage")], ttl_s=60)
            await client.set(lanes.keys.root + "message:garbage", b"p")
            await lanes.take(1, worker="w", lease_ms=60_000, op_id="op")

    asyncio.run(bury())
    assert "damaged" in run("dead", "list").stdout
    refused = json.loads(run("dead", "replay", "--all", "--json").stdout)
    assert list(refused["refused"]) == ["garbage"]
    assert json.loads(run("dead", "purge", "--all", "--json").stdout) == {"purged": 1}
