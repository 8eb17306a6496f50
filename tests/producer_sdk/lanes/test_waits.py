"""A job that is handed out knows what it waited for, and a look at one that waits says what it waits for now."""

from __future__ import annotations

from dataclasses import replace

from producer_sdk.lanes import HeldUp, TaskLimits, TenantLimits
from tests.producer_sdk.lanes.hall import Hall, job

ROOMY = TenantLimits(concurrency=100)


async def test_a_throttled_job_is_told_which_limit_and_when(hall: Hall):
    await hall.limit(ROOMY, acme=TenantLimits(concurrency=9, requests_per_min=60, burst_s=1))
    put_ms = hall.now_ms
    await hall.put(job("a"), job("b"))
    [a] = await hall.take(2)
    assert (a.past.held_up, a.past.ahead, a.past.since_ms) == ((), 0, put_ms)
    await hall.at(hall.now_ms + 1000)
    [b] = await hall.take(2)
    assert b.past.held_up == (HeldUp("requests_per_min", put_ms, put_ms + 1000),)
    assert b.past.ahead == 1


async def test_a_limit_that_says_no_again_and_again_is_one_span(hall: Hall):
    await hall.limit(ROOMY, acme=TenantLimits(concurrency=99, requests_per_min=60, burst_s=1))
    put_ms = hall.now_ms
    await hall.put(*[job(f"j{number}") for number in range(20)])
    for _ in range(19):
        await hall.take(9)
        await hall.at(hall.now_ms + 1000)
    [last] = await hall.take(9)
    assert last.past.held_up == (HeldUp("requests_per_min", put_ms, put_ms + 19_000),)


async def test_a_job_that_waited_for_a_slot_is_told_until_when(hall: Hall):
    await hall.cap(100, acme=1)
    await hall.put(job("a"), job("b"), job("z", "other"))
    a, z = await hall.take(9)
    began_ms = hall.now_ms
    look = await hall.lanes.look("b")
    assert look
    assert (look.held_up, look.position, look.queue, look.running, look.slots) == ("concurrency", 0, 1, 1, 1)
    await hall.at(hall.now_ms + 4000)
    await hall.finish(a, z)
    await hall.at(hall.now_ms + 3000)
    [b] = await hall.take(9)
    assert b.past.held_up == (HeldUp("concurrency", began_ms, began_ms + 4000),)


async def test_limits_that_were_raised_over_a_full_tenant_hold_nobody_up_for_ever(hall: Hall):
    await hall.cap(100, acme=1)
    await hall.put(job("a"))
    await hall.take()
    await hall.cap(100, acme=50)
    await hall.at(hall.now_ms + 5000)
    await hall.put(job("b"))
    await hall.at(hall.now_ms + 5000)
    [b] = await hall.take()
    assert b.past.held_up == ()


async def test_a_task_with_limits_of_its_own_says_so(hall: Hall):
    tasks = {"cite": TaskLimits(concurrency=1)}
    await hall.limit(ROOMY, acme=replace(ROOMY, tasks=tasks))
    await hall.put(job("a", task="cite"), job("b", task="cite"), job("c", task="ask"))
    taken = {delivery.job_id: delivery for delivery in await hall.take(9)}
    assert set(taken) == {"a", "c"}
    look = await hall.lanes.look("b")
    assert look
    assert look.held_up == "concurrency of cite"
    began_ms = hall.now_ms
    await hall.at(hall.now_ms + 2000)
    await hall.finish(taken["a"])
    [b] = await hall.take(9)
    assert b.past.held_up == (HeldUp("concurrency of cite", began_ms, began_ms + 2000),)


async def test_a_pause_is_told_with_its_reason_and_its_end(hall: Hall):
    await hall.put(job("a"))
    began_ms = hall.now_ms
    await hall.lanes.pause("acme", reason="unpaid invoice")
    look = await hall.lanes.look("a")
    assert look
    assert (look.held_up, look.held_up_ms) == ("paused: unpaid invoice", None)
    await hall.at(hall.now_ms + 9000)
    await hall.lanes.resume("acme")
    [a] = await hall.take()
    assert a.past.held_up == (HeldUp("paused: unpaid invoice", began_ms, began_ms + 9000),)


async def test_what_a_tenant_was_held_up_by_before_a_job_was_put_is_not_told_to_it(hall: Hall):
    await hall.put(job("a"))
    await hall.lanes.pause("acme", reason="early")
    await hall.at(hall.now_ms + 1000)
    await hall.lanes.resume("acme")
    [a] = await hall.take()
    assert a.past.held_up
    await hall.at(hall.now_ms + 1000)
    await hall.put(job("b"))
    await hall.at(hall.now_ms + 1000)
    [b] = await hall.take()
    assert b.past.held_up == ()


async def test_spans_are_bounded(hall: Hall):
    await hall.put(job("a"))
    for number in range(30):
        await hall.lanes.pause("acme", reason=f"{number} {'x' * 500}")
        await hall.at(hall.now_ms + 100)
        await hall.lanes.resume("acme")
    [a] = await hall.take()
    assert [span.by[:10] for span in a.past.held_up] == [f"paused: {number}" for number in range(22, 30)]
    assert await hall.client.memory_usage(hall.lanes.keys.root + "waits:acme") < 2000


async def test_a_story_goes_with_its_job_until_the_jobs_end(hall: Hall):
    await hall.put(job("a"))
    [first] = await hall.take()
    assert first.past.story == b""
    await hall.lanes.hand_back(first.tag, delay_ms=1000, story="one")
    back_ms = hall.now_ms
    await hall.at(hall.now_ms + 1000)
    [second] = await hall.take()
    assert (second.past.story, second.past.since_ms) == (b"one", back_ms)
    await hall.lanes.hand_back(second.tag)  # by a worker that could not read the job
    [third] = await hall.take()
    assert third.past.story == b"one"
    assert await hall.lanes.move(third.tag, job("a", body="again"), story="two")
    look = await hall.lanes.look("a")
    assert look
    assert look.past.story == b"two"
    [fourth] = await hall.take()
    assert fourth.past.story == b"two"
    await hall.finish(fourth)
    look = await hall.lanes.look("a")
    assert look
    assert (look.state, look.past.story) == ("finished", b"")


async def test_each_lost_delivery_is_known_to_the_next(hall: Hall):
    await hall.put(job("a"))
    for _ in range(2):
        taken_ms = hall.now_ms
        await hall.take()
        await hall.lose()
    [third] = await hall.take()
    newest, oldest = third.past.lost
    assert (newest.worker, newest.taken_ms, newest.lost_ms) == ("w1", taken_ms, hall.now_ms)
    assert oldest.lost_ms == taken_ms
    assert third.deliveries == 3


async def test_a_look_at_a_job_that_nobody_knows_is_none(hall: Hall):
    assert await hall.lanes.look("nobody") is None


async def test_a_delayed_and_a_running_job_say_until_when_and_where(hall: Hall):
    await hall.put(job("a", due_ms=hall.now_ms + 7000), job("b"))
    delayed = await hall.lanes.look("a")
    assert delayed
    assert (delayed.state, delayed.due_ms, delayed.position) == ("delayed", hall.now_ms + 7000, None)
    await hall.take()
    running = await hall.lanes.look("b")
    assert running
    assert (running.state, running.worker, running.taken_ms) == ("running", "w1", hall.now_ms)
