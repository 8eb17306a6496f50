"""What a tenant's limits let go, and when the next one may."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from producer_sdk.lanes import Delivery, TaskLimits, TenantLimits, TenantQueue
from tests.producer_sdk.lanes.hall import LEASE_MS, Hall, ended, job

WIDE = TenantLimits(concurrency=1000)
MINUTE_MS = 60_000


def limits(**fields: object) -> TenantLimits:
    """Wide but for these."""
    return TenantLimits(**{"concurrency": 1000, **fields})  # type: ignore[arg-type]


async def queue(hall: Hall, tenant: str = "acme") -> TenantQueue:
    """What is told of a tenant's interactive queue."""
    return next(one for one in await hall.lanes.depths() if (one.tenant, one.lane) == (tenant, "interactive"))


async def served(hall: Hall, ms: int, *, step_ms: int = 250, n: int = 50) -> list[tuple[int, str]]:
    """When each job is handed out, by a worker that looks again and again and ends each at once."""
    found = []
    end = hall.now_ms + ms
    while hall.now_ms < end:
        for delivery in await hall.take(n):
            found.append((hall.now_ms, delivery.job_id))
            await hall.finish(delivery)
        await hall.at(hall.now_ms + step_ms)
    return found


async def test_requests_go_as_the_bucket_refills_after_its_burst(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=60, burst_s=5))
    await hall.put(*(job(f"j{number:03}") for number in range(100)))
    assert len(await hall.take(50)) == 5
    assert len(await served(hall, 30_000)) in (29, 30)


async def test_a_throttled_tenant_is_in_no_ready_set_and_the_take_says_when_to_look_again(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=60, burst_s=1))
    await hall.put(job("a"), job("b"), job("c", lane="batch"))
    assert await hall.names(9) == ["a"]
    ready = [f"{hall.lanes.keys.root}ready:{lane}" for lane in ("interactive", "batch")]
    assert await hall.client.exists(*ready) == 0
    reply = await hall.lanes.take(9, worker="w", lease_ms=LEASE_MS, op_id="x")
    assert (reply.deliveries, reply.next_ms) == ((), 1000)
    told = await queue(hall)
    assert (told.throttled_ms, told.throttled_by, told.running) == (1000, "requests_per_min", 1)
    await hall.at(hall.now_ms + 1000)
    assert len(await hall.take(9)) == 1


async def test_tokens_go_by_what_was_estimated_and_then_by_what_was_used(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(tokens_per_min=60_000, burst_s=1))
    await hall.put(*(job(f"j{number}", tokens=500) for number in range(9)))
    first, second = await hall.take(9)
    assert (await queue(hall)).throttled_ms == 500
    await hall.finish(first, used=(0, 0))  # a cache hit is given back
    assert len(await hall.take(9)) == 1
    await hall.finish(second, used=(1000, 1500))  # 2,000 more than it was charged
    assert (await queue(hall)).throttled_ms == 2500


async def test_a_bucket_may_be_overdrawn_and_is_paid_back(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(tokens_per_min=600, burst_s=6))
    await hall.put(job("huge", tokens=600), job("next", tokens=1))
    assert await hall.names(9) == ["huge"], "dearer than the burst of 60, it goes when the bucket is full"
    assert (await queue(hall)).throttled_by == "tokens_per_min"
    assert (await queue(hall)).throttled_ms == (600 - 60 + 1) * 100
    await hall.at(hall.now_ms + 54_000)
    assert await hall.names(9) == []
    await hall.at(hall.now_ms + 100)
    assert await hall.names(9) == ["next"]


async def test_what_is_let_go_in_any_minute_is_the_limit_and_the_burst_at_most(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=120, burst_s=6))
    await hall.put(*(job(f"j{number:03}") for number in range(400)))
    times = [at for at, _name in await served(hall, 2 * MINUTE_MS, step_ms=333)]
    worst = max(sum(start <= at < start + MINUTE_MS for at in times) for start in times)
    assert worst <= 120 + 12
    assert len(times) >= 0.97 * 2 * 120


async def test_a_tenant_that_is_throttled_delays_no_other_and_takes_no_slot(hall: Hall) -> None:
    await hall.limit(WIDE, noisy=limits(requests_per_min=60, burst_s=1))
    await hall.put(*(job(f"n{number}", "noisy") for number in range(500)))
    await hall.put(*(job(f"q{number}", "quiet") for number in range(20)))
    assert Counter(one.tenant for one in await hall.take(100)) == {"noisy": 1, "quiet": 20}
    assert (await queue(hall, "noisy")).running == 1


async def test_a_task_with_limits_of_its_own_holds_up_no_other_task_of_its_tenant(hall: Hall) -> None:
    own = TaskLimits(concurrency=2, requests_per_min=60)
    await hall.limit(WIDE, acme=limits(burst_s=60, tasks={"rag": own}))
    for number in range(5):
        await hall.put(job(f"r{number}", task="rag"), job(f"c{number}", task="classify"))
    held = {one.job_id: one for one in await hall.take(20)}
    assert sorted(held) == ["c0", "c1", "c2", "c3", "c4", "r0", "r1"]
    assert await hall.names(9) == []
    await hall.put(job("c5", task="classify"))
    assert await hall.names(9) == ["c5"]
    await hall.finish(held["r0"])
    assert await hall.names(9) == ["r2"]


async def test_a_task_that_is_throttled_holds_up_no_other_task_that_comes_later(hall: Hall) -> None:
    own = TaskLimits(requests_per_min=1)
    await hall.limit(WIDE, acme=limits(burst_s=1, tasks={"rag": own}))
    await hall.put(job("r0", task="rag"), job("r1", task="rag"))
    assert await hall.names(9) == ["r0"]
    assert await hall.names(9) == []
    await hall.put(job("c0", task="classify"))
    assert await hall.names(9) == ["c0"]
    assert await hall.names(9) == []


async def test_a_task_that_is_throttled_in_one_lane_holds_up_nothing_in_the_other(hall: Hall) -> None:
    own = TaskLimits(requests_per_min=1)
    await hall.limit(WIDE, acme=limits(burst_s=1, tasks={"rag": own}))
    await hall.put(*(job(f"r{number}", task="rag") for number in range(10)))
    await hall.put(*(job(f"c{number:03}", task="classify", lane="batch") for number in range(100)))
    taken = [name for _ in range(30) for name in await hall.names(4)]
    assert len([name for name in taken if name[0] == "c"]) == 100
    assert [name for name in taken if name[0] == "r"] == ["r0"]


async def test_an_urgent_job_is_looked_at_though_a_dear_one_has_its_tenant_throttled(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(tokens_per_min=600, burst_s=60))
    await hall.put(job("first", tokens=600), job("dear", tokens=600))
    assert await hall.names(9) == ["first"]
    assert await hall.names(9) == []
    await hall.at(hall.now_ms + 2000)
    await hall.put(job("urgent", tokens=10, priority=9))
    assert await hall.names(9) == ["urgent"]


async def test_a_throttled_head_that_is_cancelled_lets_the_next_one_go(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(tokens_per_min=600, burst_s=60))
    await hall.put(job("first", tokens=600), job("dear", tokens=600), job("cheap", tokens=10))
    assert await hall.names(9) == ["first"]
    assert await hall.names(9) == []
    await hall.at(hall.now_ms + 2000)
    await hall.lanes.cancel("dear")
    assert await hall.names(9) == ["dear", "cheap"], "the one to be ended, the other to run"


async def test_a_tasks_own_rate_is_beside_its_tenants(hall: Hall) -> None:
    own = TaskLimits(requests_per_min=60)
    await hall.limit(WIDE, acme=limits(requests_per_min=600, burst_s=2, tasks={"rag": own}))
    for number in range(40):
        await hall.put(job(f"r{number}", task="rag"), job(f"c{number}", task="classify"))
    first = Counter(name[0] for name in await hall.names(80))
    assert first == {"r": 2, "c": 18}
    told = await queue(hall)
    assert (told.throttled_ms, told.throttled_by) == (100, "requests_per_min")
    await hall.at(hall.now_ms + 1000)
    assert Counter(name[0] for name in await hall.names(80)) == {"r": 1, "c": 9}


async def test_limits_that_change_hold_for_jobs_that_wait_already(hall: Hall) -> None:
    await hall.limit(WIDE)
    for number in range(5):
        await hall.put(job(f"r{number}", task="rag"), job(f"c{number}", task="classify"))
    await hall.limit(WIDE, acme=limits(tasks={"rag": TaskLimits(concurrency=1)}))
    assert sorted(await hall.names(20)) == ["c0", "c1", "c2", "c3", "c4", "r0"]
    await hall.limit(WIDE)
    assert sorted(await hall.names(20)) == ["r1", "r2", "r3", "r4"]


async def test_a_throttled_tenant_whose_limit_is_raised_goes_at_once(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=1))
    await hall.put(job("a"), job("b"))
    assert await hall.names(9) == ["a"]
    await hall.limit(WIDE, acme=limits(requests_per_min=6000))
    await hall.at(hall.now_ms + 50)
    assert await hall.names(9) == ["b"]


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
async def test_interleaving_25_a_clock_that_jumps_an_hour_refills_nothing_negative_and_no_more_than_the_burst(
    hall: Hall, jump_ms: int
) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=60, burst_s=3))
    await hall.put(*(job(f"j{number:02}") for number in range(30)))
    assert len(await hall.take(30)) == 3
    await hall.at(hall.now_ms + jump_ms)
    await hall.lanes.beat([], lease_ms=LEASE_MS)
    now = await hall.take(30)
    assert len(now) == (3 if jump_ms > 0 else 0)
    later = await served(hall, 10_000)
    assert len(later) in (9, 10), "an hour back is not an hour of silence"


async def test_small_steps_back_of_the_clock_refill_nothing_twice(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=60, burst_s=3))
    await hall.put(*(job(f"j{number:02}") for number in range(30)))
    await hall.at(hall.now_ms - 3_600_000)
    await hall.lanes.beat([], lease_ms=LEASE_MS)
    await hall.live_on(3_600_000 // 4)
    assert len(await hall.take(30)) == 3
    await hall.at(hall.now_ms - 500)
    assert await hall.take(30) == []
    await hall.at(hall.now_ms + 1500)
    assert len(await hall.take(30)) == 1


async def test_interleaving_25_delayed_jobs_are_due_at_their_time_after_a_clock_went_ahead_and_back(
    hall: Hall,
) -> None:
    due_ms = hall.now_ms + 1000
    await hall.put(*(job(f"j{number:02}", due_ms=due_ms) for number in range(40)))
    await hall.at(hall.now_ms + 3_600_000)
    first = await hall.names(4)
    await hall.at(hall.now_ms - 3_600_000 + 2000)
    await hall.lanes.beat([], lease_ms=LEASE_MS)
    later = [name for _ in range(12) for name in await hall.names(16)]
    assert sorted([*first, *later]) == [f"j{number:02}" for number in range(40)]


async def test_a_usage_that_no_call_can_have_throttles_its_tenant_for_an_hour_at_most(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(tokens_per_min=600, burst_s=6))
    await hall.put(job("a", tokens=10), job("b", tokens=10))
    a, *_others = await hall.take(1)
    await hall.finish(a, used=(2**31 - 1, 0))
    assert 3_600_000 < (await queue(hall)).throttled_ms < 3_700_000


async def test_a_bucket_that_is_full_again_is_forgotten(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=60, burst_s=2))
    await hall.put(job("a"))
    await hall.finish(*await hall.take())
    bucket = hall.lanes.keys.root + "bucket::acme"
    assert 0 < await hall.client.pttl(bucket) <= 3000


async def test_a_job_handed_back_has_its_tokens_back_but_not_its_request(hall: Hall) -> None:
    await hall.limit(WIDE, acme=limits(requests_per_min=60, tokens_per_min=600, burst_s=60))
    await hall.put(job("a", tokens=600))
    [held] = await hall.take()
    assert await hall.lanes.hand_back(held.tag)
    [again] = await hall.take()
    assert again.job_id == "a"
    await hall.put(job("b", tokens=1))
    assert (await hall.take()) == []
    left = await hall.client.hgetall(hall.lanes.keys.root + "bucket::acme")
    assert (float(left[b"requests"]), float(left[b"tokens"])) == (58, 0)


async def test_weights_share_tokens_and_change_the_order_of_a_backlog_that_is_there(hall: Hall) -> None:
    for tenant in ("one", "two", "four"):
        await hall.put(*(job(f"{tenant}{number}", tenant) for number in range(200)))
    await hall.limit(WIDE, two=limits(weight=2), four=limits(weight=4))
    assert Counter(one.tenant for one in await hall.take(70)) == {"one": 10, "two": 20, "four": 40}
    await hall.limit(WIDE, one=limits(weight=4), two=limits(weight=2))
    after = Counter(one.tenant for one in await hall.take(70))
    assert (after["one"], after["two"], after["four"]) == (40, 20, 10)


async def test_what_a_job_took_beyond_its_estimate_is_charged_when_it_is_known(hall: Hall) -> None:
    await hall.put(*(job(f"a{number}", "acme") for number in range(20)))
    await hall.put(*(job(f"z{number}", "zenith") for number in range(20)))
    first, second = await hall.take(2)
    assert {first.tenant, second.tenant} == {"acme", "zenith"}
    await hall.finish(first, used=(500, 200))  # 500 + 2 · 200, estimated at 100
    await hall.finish(second, used=(100, 0))
    later = Counter(one.tenant for one in await hall.take(10))
    assert later[first.tenant] <= 1


async def test_what_was_not_used_is_given_back_but_saves_up_no_credit(hall: Hall) -> None:
    await hall.put(*(job(f"a{number}", "acme", cost=1000) for number in range(20)))
    await hall.put(*(job(f"z{number}", "zenith") for number in range(60)))
    [a0] = [one for one in await hall.take(2) if one.tenant == "acme"]
    await hall.finish(a0, used=(0, 0))
    assert Counter(one.tenant for one in await hall.take(2)) == {"acme": 1, "zenith": 1}


async def test_who_estimates_too_much_or_too_little_gets_its_share_all_the_same(hall: Hall) -> None:
    await hall.limit(WIDE)
    for tenant, estimated in (("over", 400), ("right", 200), ("under", 100)):
        await hall.put(*(job(f"{tenant}{number}", tenant, cost=estimated) for number in range(200)))
    held: list[Delivery] = []
    served: Counter[str] = Counter()
    while served.total() < 300:
        held += await hall.take(1)
        if len(held) == 8:
            ended = held.pop(0)
            served[ended.tenant] += 1
            await hall.finish(ended, used=(200, 0))
    assert max(served.values()) - min(served.values()) <= 6


async def test_a_newcomer_joins_beside_a_backlog_that_was_given_back_what_it_was_overcharged(
    hall: Hall,
) -> None:
    await hall.put(*(job(f"a{number:03}", "acme", cost=1000) for number in range(900)))
    for _ in range(3):
        held = await hall.take(90)
        await hall.lanes.finish([ended(one, used=(100, 0)) for one in held])
    await hall.put(job("quiet", "quiet"))
    assert "quiet" in await hall.names(2)


async def test_who_has_nothing_waiting_pays_what_its_last_job_took_too_much(hall: Hall) -> None:
    await hall.put(job("a0", "acme"), *(job(f"z{number}", "zenith") for number in range(20)))
    [held] = await hall.take()
    assert held.job_id == "a0"
    await hall.finish(held, used=(1000, 0))
    await hall.put(*(job(f"a{number}", "acme") for number in range(1, 9)))
    assert Counter(one.tenant for one in await hall.take(9)) == {"zenith": 9}


async def test_a_priority_is_served_twice_as_often_as_the_one_below_and_none_starves(hall: Hall) -> None:
    for number in range(40):
        await hall.put(*(job(f"{priority}-{number:02}", priority=priority) for priority in (5, 6, 8)))
    first = Counter(name[0] for name in await hall.names(55))
    assert first["8"] == 40
    assert first["6"] == 2 * first["5"]


async def test_one_urgent_job_overtakes_its_tenants_whole_backlog_and_a_lowly_one_is_not_forgotten(
    hall: Hall,
) -> None:
    await hall.put(job("lowly", priority=0), *(job(f"j{number:02}") for number in range(60)))
    await hall.names(10)
    await hall.put(job("urgent", priority=9))
    assert (await hall.names(1)) == ["urgent"]
    assert "lowly" in await hall.names(25)


async def test_a_paused_tenant_waits_until_it_is_resumed_and_what_runs_goes_on(hall: Hall) -> None:
    await hall.put(job("a"), job("b"), job("z", "zenith"))
    [a] = [one for one in await hall.take(1) if one.tenant == "acme"]
    await hall.lanes.pause("acme", reason="unpaid invoice")
    await hall.put(job("c"))
    assert await hall.names(9) == ["z"]
    assert await hall.finish(a) == [True]
    assert await hall.names(9) == []
    told = await queue(hall)
    assert (told.paused_until_ms, told.paused_for) == (0, "unpaid invoice")
    assert [pause.tenant for pause in await hall.lanes.pauses()] == ["acme"]
    assert await hall.lanes.resume("acme")
    assert not await hall.lanes.resume("acme")
    assert await hall.names(9) == ["b", "c"]


async def test_a_pause_with_an_end_ends_by_itself(hall: Hall) -> None:
    await hall.put(job("a"), job("z", "zenith"))
    await hall.lanes.pause("acme", for_ms=5000, reason="budget")
    assert await hall.names(9) == ["z"]
    reply = await hall.lanes.take(9, worker="w", lease_ms=LEASE_MS, op_id="x")
    assert reply.next_ms == 5000
    await hall.at(hall.now_ms + 4999)
    assert await hall.names(9) == []
    await hall.at(hall.now_ms + 1)
    assert await hall.names(9) == ["a"]
    assert await hall.lanes.pauses() == []


async def test_a_paused_tenants_jobs_can_be_cancelled_and_expire(hall: Hall) -> None:
    await hall.lanes.pause("acme")
    await hall.put(job("a"), job("b", deadline_ms=hall.now_ms + 10))
    assert await hall.lanes.cancel("a") == "pending"
    await hall.live_on(10)
    await hall.sweep()
    assert {one.job_id: one.stop for one in await hall.take(9)} == {"a": "cancelled", "b": "expired"}


async def test_the_ten_jobs_of_the_docs_come_in_the_order_that_they_say(hall: Hall) -> None:
    """docs/architecture.md, "The order of ten jobs": its table is put, its order is taken."""
    text = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\w\d) \| (\w+) \| (\d) \| (\w+) \| (\d) \| (\d+) \|$", text, re.MULTILINE)
    [order] = re.findall(r"^Order: (.*)$", text, re.MULTILINE)
    assert len(rows) == 10
    weights = {tenant: limits(weight=int(weight)) for _name, tenant, weight, *_rest in rows}
    await hall.limit(WIDE, **weights)
    for name, tenant, _weight, lane, priority, cost in rows:
        await hall.put(job(name, tenant, lane=lane, priority=int(priority), cost=int(cost)))
    assert await hall.names(10) == order.split(", ")
