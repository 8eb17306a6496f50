"""Who is served next, and what a take gives."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.producer_sdk.lanes.hall import LEASE_MS, TTL_S, Hall, job


async def test_a_delivery_carries_the_message_and_its_story(hall: Hall) -> None:
    await hall.put(job("a", "acme", lane="batch"))
    put_ms = hall.now_ms
    await hall.at(put_ms + 250)
    [delivery] = await hall.take(op_id="op")
    assert delivery.tag == "a:op"
    assert (delivery.job_id, delivery.tenant, delivery.lane) == ("a", "acme", "batch")
    assert delivery.message == job("a").message
    assert (delivery.put_ms, delivery.taken_ms) == (put_ms, put_ms + 250)
    assert (delivery.deliveries, delivery.stop) == (1, None)


async def test_a_tenants_jobs_come_in_order_and_higher_priority_first(hall: Hall) -> None:
    await hall.put(job("a"), job("b"), job("low", priority=1), job("high", priority=9), job("c"))
    assert await hall.names(10) == ["high", "a", "b", "c", "low"]


async def test_tenants_with_equal_jobs_take_turns(hall: Hall) -> None:
    for number in range(3):
        await hall.put(job(f"a{number}", "acme"), job(f"z{number}", "zenith"))
    assert await hall.names(6) == ["a0", "z0", "a1", "z1", "a2", "z2"]


async def test_a_tenant_with_jobs_of_thrice_the_cost_gets_a_third_of_the_turns(hall: Hall) -> None:
    for number in range(200):
        await hall.put(job(f"a{number}", "acme", cost=300), job(f"z{number}", "zenith", cost=100))
    await hall.cap(1000)
    served = Counter(delivery.tenant for delivery in await hall.take(100))
    assert served == {"acme": 25, "zenith": 75}


async def test_a_quiet_tenant_is_served_next_though_another_has_5000_pending(hall: Hall) -> None:
    await hall.put(*(job(f"n{number}", "noisy") for number in range(5000)))
    assert len(await hall.take(50)) == 50
    await hall.put(job("q", "quiet"))
    assert "q" in await hall.names(2)


async def test_a_quiet_tenant_gets_its_share_while_another_floods(hall: Hall) -> None:
    await hall.put(*(job(f"n{number}", "noisy") for number in range(2000)))
    await hall.cap(1000)
    await hall.finish(*await hall.take(50))
    await hall.put(*(job(f"q{number}", "quiet") for number in range(100)))
    served = Counter(delivery.tenant for delivery in await hall.take(100))
    assert abs(served["quiet"] - 50) <= 1


async def test_who_has_none_running_catches_up_with_who_has_many(hall: Hall) -> None:
    await hall.put(*(job(f"n{number}", "noisy") for number in range(500)))
    await hall.take(30)
    await hall.put(*(job(f"q{number}", "quiet") for number in range(100)))
    assert Counter(delivery.tenant for delivery in await hall.take(70)) == {"quiet": 50, "noisy": 20}


async def test_an_idle_tenant_has_saved_up_no_credit(hall: Hall) -> None:
    await hall.put(job("z0", "zenith"))
    await hall.finish(*await hall.take())
    await hall.put(*(job(f"a{number}", "acme") for number in range(60)))
    await hall.finish(*await hall.take(50))
    await hall.put(*(job(f"z{number}", "zenith") for number in range(1, 11)))
    served = Counter(delivery.tenant for delivery in await hall.take(10))
    assert served["zenith"] <= 6


async def test_a_tenant_that_comes_and_goes_does_not_escape_its_charge(hall: Hall) -> None:
    await hall.put(*(job(f"a{number}", "acme", cost=100) for number in range(50)))
    served = 0
    for _number in range(20):
        if await hall.state(f"z{served}") == "unknown":
            await hall.put(job(f"z{served}", "zenith", cost=1000))
        served += (await hall.names()) == [f"z{served}"]
        await hall.sweep()
    assert served == 2


async def test_a_refund_saves_up_no_credit(hall: Hall) -> None:
    await hall.put(*(job(f"a{number}", "acme") for number in range(30)), job("z0", "zenith", cost=1000))
    acmes, held = await hall.take(2)
    await hall.finish(acmes, *await hall.take(4))
    await hall.put(*(job(f"z{number}", "zenith", priority=9) for number in range(1, 10)))
    assert await hall.lanes.hand_back(held.tag, delay_ms=10**6)
    assert Counter(delivery.tenant for delivery in await hall.take(8)) == {"acme": 4, "zenith": 4}


async def test_idle_tenants_leave_nothing_behind(hall: Hall) -> None:
    for number in range(30):
        await hall.put(job(f"j{number}", f"tenant-{number}"))
        await hall.finish(*await hall.take())
    await hall.put(job("last", "tenant-0"))
    await hall.finish(*await hall.take())
    await hall.sweep()
    keys = hall.lanes.keys
    left = {key.decode() async for key in hall.client.scan_iter(keys.root + "*")}
    records = {key for key in left if key.startswith((keys.root + "job:", keys.root + "take:"))}
    left -= {key for key in left if key.startswith(keys.root + "limits:")}
    assert left - records == {keys.root + name for name in ("state", "clock", "run")}
    assert all([await hall.client.ttl(key) > 0 for key in records])


async def test_interactive_and_batch_share_eight_to_two(hall: Hall) -> None:
    for number in range(50):
        await hall.put(job(f"i{number}"), job(f"b{number}", lane="batch"))
    assert Counter(delivery.lane for delivery in await hall.take(10)) == {"interactive": 8, "batch": 2}
    served = Counter([delivery.lane for _ in range(10) for delivery in await hall.take(1)])
    assert served == {"interactive": 8, "batch": 2}


@pytest.mark.parametrize("lane", ["interactive", "batch"])
async def test_one_lane_uses_what_the_other_leaves(hall: Hall, lane: str) -> None:
    await hall.put(*(job(f"j{number}", lane=lane) for number in range(10)))
    assert len(await hall.take(10)) == 10


async def test_a_tenant_never_runs_more_jobs_than_its_cap_over_both_lanes(hall: Hall) -> None:
    await hall.cap(1, acme=3)
    for number in range(5):
        await hall.put(job(f"i{number}"), job(f"b{number}", lane="batch"), job(f"z{number}", "zenith"))
    held = await hall.take(20)
    assert Counter(delivery.tenant for delivery in held) == {"acme": 3, "zenith": 1}
    assert await hall.take(20) == []
    await hall.finish(held[0])
    assert [delivery.tenant for delivery in await hall.take(20)] == [held[0].tenant]


async def test_a_tenant_at_its_cap_is_in_no_ready_set(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(job("a"), job("b"), job("c", lane="batch"))
    [held] = await hall.take()
    ready = [f"{hall.lanes.keys.root}ready:{lane}" for lane in ("interactive", "batch")]
    assert await hall.client.exists(*ready) == 0
    await hall.finish(held)
    assert await hall.client.exists(*ready) == 2


async def test_a_higher_cap_counts_at_once_and_a_lower_one_for_the_next_take(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(*(job(f"j{number}") for number in range(9)))
    await hall.take(9)
    await hall.cap(1, acme=4)
    assert len(await hall.take(9)) == 3
    await hall.cap(1, acme=5)
    await hall.cap(1, acme=4)
    assert await hall.take(9) == []


async def test_without_caps_a_tenant_runs_one_job_at_a_time(hall: Hall) -> None:
    await hall.client.hdel(hall.lanes.keys.root + "state", "limits")
    lanes = type(hall.lanes)(hall.client, namespace=hall.lanes.keys.namespace, clock="override")
    await hall.put(job("a"), job("b"))
    reply = await lanes.take(2, worker="w", lease_ms=LEASE_MS, op_id="x")
    assert len(reply.deliveries) == 1


async def test_a_flushed_server_is_told_the_caps_again(hall: Hall) -> None:
    await hall.client.delete(hall.lanes.keys.root + "state", hall.lanes.keys.root + "caps")
    await hall.take()
    await hall.put(job("a"), job("b"))
    assert await hall.names(2) == ["a", "b"]


async def test_a_delayed_job_comes_when_it_is_due_and_the_take_says_when(hall: Hall) -> None:
    await hall.put(job("later", due_ms=hall.now_ms + 500))
    reply = await hall.lanes.take(1, worker="w", lease_ms=LEASE_MS, op_id="x")
    assert (reply.deliveries, reply.next_ms) == ((), 500)
    assert await hall.state("later") == "delayed"
    await hall.at(hall.now_ms + 499)
    assert await hall.names() == []
    await hall.at(hall.now_ms + 1)
    assert await hall.names() == ["later"]


async def test_with_nothing_to_wait_for_a_take_says_so(hall: Hall) -> None:
    reply = await hall.lanes.take(1, worker="w", lease_ms=LEASE_MS, op_id="x")
    assert (reply.deliveries, reply.next_ms) == ((), None)


async def test_one_tenants_thousand_due_jobs_hold_up_no_other_tenants(hall: Hall) -> None:
    await hall.put(*(job(f"n{number}", "noisy", due_ms=hall.now_ms + 10) for number in range(1000)))
    await hall.put(job("q", "quiet", due_ms=hall.now_ms + 11))
    await hall.at(hall.now_ms + 20)
    assert "q" in await hall.names(4)


async def test_a_lane_with_unknown_and_damaged_jobs_still_gives_the_others_and_lists_them(hall: Hall) -> None:
    root = hall.lanes.keys.root
    await hall.put(job("no-message"))
    [held] = await hall.take()
    await hall.lanes.hand_back(held.tag)
    await hall.put(job("a"), job("gone"), job("odd"), job("short"), job("b"))
    await hall.client.delete(root + "message:gone", root + "message:no-message")
    await hall.client.set(root + "message:odd", b"p\x00\x09\xc1not packed")
    await hall.client.set(root + "message:short", b"p")
    await hall.client.zadd(root + "queue:interactive::acme", {"never-put": 0})
    await hall.client.zadd(root + "closing", {"never-put": 0})
    await hall.client.zadd(root + "ready:interactive", {"no-jobs": 0})
    held = await hall.take(10)
    assert [(delivery.job_id, delivery.message) for delivery in held] == [
        ("no-message", b""),
        ("a", b"a\n"),
        ("b", b"b\n"),
    ]
    dead = await hall.lanes.dead()
    assert {job.job_id for job in dead} == {"never-put", "gone", "odd", "short"}
    assert {job.reason for job in dead} == {"its record is missing or damaged"}
    assert await hall.client.exists(root + "ready:interactive") == 0


async def test_a_take_of_more_bytes_than_fit_is_cut_short_and_goes_on(hall: Hall) -> None:
    large = "x" * (7 * 1024 * 1024)
    await hall.put(*(job(f"j{number}", body=large) for number in range(4)))
    assert len(await hall.take(4)) == 3
    assert len(await hall.take(4)) == 1


@pytest.mark.parametrize("n", [1, 4])
async def test_a_tenant_that_cancels_a_thousand_jobs_does_not_hold_up_the_others(hall: Hall, n: int) -> None:
    await hall.put(*(job(f"n{number}", "noisy", due_ms=hall.now_ms + 10**6) for number in range(1000)))
    for number in range(1000):
        await hall.lanes.cancel(f"n{number}")
    await hall.put(*(job(f"q{number}", "quiet") for number in range(10)))
    stops = [held.stop for _ in range(20 // n) for held in await hall.take(n)]
    assert stops == ["cancelled", None] * 10
    assert {held.stop for held in await hall.take(4)} == {"cancelled"}


@pytest.mark.parametrize("n", [0, -1])
async def test_a_take_of_none_gives_none(hall: Hall, n: int) -> None:
    await hall.put(job("a"), job("b"))
    await hall.lanes.cancel("b")
    assert await hall.take(n) == []


@pytest.mark.parametrize(
    "tenant",
    ["a:b", "a", "interactive:a", "{x}", "}{", "", " ", "a\nb", "\x00", "ü", "*", "default_cap", "b" * 500],
)
async def test_no_tenants_name_reaches_anothers_keys(hall: Hall, tenant: str) -> None:
    await hall.cap(7, **{tenant: 1, "interactive": 7})
    await hall.put(job("own", tenant), job("own2", tenant), *(job(f"o{n}", "a:b:c") for n in range(2)))
    held = await hall.take(10)
    assert sorted(delivery.job_id for delivery in held) == ["o0", "o1", "own"]
    assert next(d.tenant for d in held if d.job_id == "own") == tenant
    depths = {(queue.tenant, queue.lane): queue for queue in await hall.lanes.depths()}
    assert (depths[tenant, "interactive"].pending, depths[tenant, "interactive"].cap) == (1, 1)
    assert depths["a:b:c", "interactive"].running == 2


async def test_the_depth_of_every_tenant_is_told(hall: Hall) -> None:
    await hall.put(job("a"), job("b"), job("c", lane="batch"), job("d", due_ms=hall.now_ms + 1000))
    await hall.take(1)
    await hall.at(hall.now_ms + 300)
    batch, interactive = await hall.lanes.depths()
    assert (interactive.pending, interactive.running, interactive.cap) == (1, 1, 100)
    assert (interactive.virtual_time, interactive.oldest_ms, interactive.delayed) == (100, 300, 1)
    assert (batch.lane, batch.pending, batch.running) == ("batch", 1, 1)
    counts = await hall.lanes.counts()
    assert (counts.pending, counts.delayed, counts.running, counts.closing, counts.dead) == (2, 1, 1, 0, 0)


async def test_300_tenants_are_told_over_several_pages(hall: Hall) -> None:
    await hall.lanes.put([job(f"j{n}", f"t{n}") for n in range(300)], ttl_s=TTL_S)
    assert len(await hall.lanes.depths()) == 600
    assert (await hall.lanes.counts()).pending == 300
