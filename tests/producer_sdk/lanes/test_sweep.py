"""What comes back when a worker is gone, and what is given up."""

from __future__ import annotations

from tests.producer_sdk.lanes.hall import LEASE_MS, Hall, job


async def test_a_dead_workers_job_comes_back_to_the_head_of_its_queue_counted(hall: Hall) -> None:
    await hall.put(job("a"), job("b"), job("c"))
    await hall.take(2)
    assert await hall.lose() == (2, 0, False)
    again = await hall.take(3)
    assert [(held.job_id, held.deliveries) for held in again] == [("a", 2), ("b", 2), ("c", 1)]


async def test_a_job_whose_worker_beats_stays_with_it_for_hours(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    for _hour in range(2):
        assert await hall.live_on(20 * LEASE_MS, [held.tag]) == frozenset()
        assert await hall.sweep() == (0, 0, False)
    assert await hall.finish(held) == [True]


async def test_a_worker_that_was_paused_past_its_lease_is_fenced(hall: Hall) -> None:
    await hall.put(job("a"))
    [late] = await hall.take()
    await hall.lose()
    [second] = await hall.take()
    assert await hall.finish(late, result=b"late") == [False]
    assert await hall.lanes.hand_back(late.tag) is False
    assert await hall.lanes.move(late.tag, job("a")) is False
    assert (await hall.lanes.beat([late.tag], lease_ms=LEASE_MS)).lost == {late.tag}
    assert await hall.result("a") is None
    assert await hall.finish(second, result=b"second") == [True]
    assert await hall.finish(late, result=b"late") == [False]
    assert await hall.result("a") == b"second"


async def test_a_lease_that_has_ended_but_was_not_swept_is_still_the_workers(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    await hall.live_on(2 * LEASE_MS)
    assert (await hall.lanes.beat([held.tag], lease_ms=LEASE_MS)).lost == frozenset()
    assert await hall.sweep() == (0, 0, False)


async def test_a_job_lost_five_times_is_given_up_listed_and_ended(hall: Hall) -> None:
    await hall.put(job("poison"), job("next"))
    await hall.cap(1)
    for count in range(1, 6):
        [held] = await hall.take()
        assert (held.job_id, held.deliveries) == ("poison", count)
        await hall.lose()
    [dead] = await hall.lanes.dead()
    assert (dead.job_id, dead.tenant, dead.deliveries) == ("poison", "acme", 5)
    assert dead.reason == "lost with its worker 5 times"
    assert dead.since_ms == hall.now_ms
    ending, following = await hall.take(2)
    assert (ending.job_id, ending.stop, ending.message) == ("poison", "dead", b"poison\n")
    assert (following.job_id, following.stop) == ("next", None)
    assert await hall.state("poison") == "closing"
    assert await hall.finish(ending, result=b"failed") == [True]
    assert (await hall.state("poison"), await hall.result("poison")) == ("dead", b"failed")
    assert await hall.put(job("poison")) == ["duplicate"]
    assert (await hall.lanes.counts()).dead == 1


async def test_an_end_that_takes_its_workers_down_is_tried_ever_more_rarely(hall: Hall) -> None:
    await hall.put(job("poison"))
    await hall.take()
    await hall.live_on(LEASE_MS)
    await hall.sweep(delivery_cap=1)
    waits = []
    for _time in range(3):
        [held] = await hall.take()
        assert held.stop == "dead"
        await hall.live_on(LEASE_MS)
        await hall.sweep(delivery_cap=1)
        reply = await hall.lanes.take(1, worker="w", lease_ms=LEASE_MS, op_id=f"look{_time}")
        waits.append(reply.next_ms or 0)
        await hall.live_on(waits[-1])
    assert waits == [2 * LEASE_MS, 3 * LEASE_MS, 4 * LEASE_MS]


async def test_dead_jobs_are_kept_for_seven_days_newest_first(hall: Hall) -> None:
    for name in ("old", "new"):
        await hall.put(job(name))
        await hall.take()
        await hall.live_on(LEASE_MS)
        await hall.sweep(delivery_cap=1)
        await hall.finish(*await hall.take())
    assert [dead.job_id for dead in await hall.lanes.dead()] == ["new", "old"]
    assert [dead.job_id for dead in await hall.lanes.dead(limit=1)] == ["new"]
    assert 0 < await hall.client.ttl(hall.lanes.keys.root + "dead:old") <= 7 * 86400
    await hall.at(hall.now_ms + 8 * 86_400_000)
    await hall.sweep()
    assert (await hall.lanes.counts()).dead == 0


async def test_pending_and_delayed_jobs_past_their_deadline_are_only_ended(hall: Hall) -> None:
    soon = hall.now_ms + 100
    await hall.put(job("a", deadline_ms=soon), job("b", deadline_ms=soon, due_ms=soon + 10**6), job("c"))
    await hall.live_on(100)
    await hall.sweep()
    held = await hall.take(3)
    assert {one.job_id: one.stop for one in held} == {"a": "expired", "b": "expired", "c": None}


async def test_a_job_past_its_deadline_is_not_handed_out_even_before_a_sweep(hall: Hall) -> None:
    await hall.put(job("a", deadline_ms=hall.now_ms + 100), job("b"))
    await hall.live_on(100)
    assert await hall.names(1) == ["b"]
    assert [held.stop for held in await hall.take()] == ["expired"]


async def test_an_ending_takes_no_slot(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(job("a"), job("b"), job("c"))
    await hall.lanes.cancel("b")
    await hall.lanes.cancel("c")
    assert sorted(await hall.names(5)) == ["a", "b", "c"]


async def test_an_ending_whose_worker_dies_or_gives_it_back_comes_again(hall: Hall) -> None:
    await hall.put(job("a"), job("b"))
    await hall.lanes.cancel("a")
    await hall.lanes.cancel("b")
    _a, b = await hall.take(2)
    assert await hall.lanes.hand_back(b.tag, delay_ms=1000)
    assert await hall.names(2) == []
    await hall.lose()
    assert {held.job_id: held.stop for held in await hall.take(2)} == {"a": "cancelled", "b": "cancelled"}


async def test_a_sweep_takes_at_most_100_and_the_next_one_the_rest(hall: Hall) -> None:
    await hall.cap(1000)
    await hall.put(*(job(f"j{number}") for number in range(150)))
    await hall.take(150)
    assert await hall.lose() == (100, 0, False)
    assert await hall.sweep() == (50, 0, False)


async def test_a_slot_without_an_unacked_entry_is_freed(hall: Hall) -> None:
    await hall.cap(1)
    await hall.put(job("a"), job("b"))
    await hall.take()
    await hall.client.delete(hall.lanes.keys.root + "job:a")
    await hall.lose()
    await hall.sweep()
    assert await hall.names() == ["b"]


async def test_the_first_lease_of_a_new_server_is_not_swept(hall: Hall) -> None:
    await hall.client.delete(hall.lanes.keys.root + "state")
    assert await hall.sweep() == (0, 0, True)
    await hall.live_on(LEASE_MS)
    assert await hall.sweep() == (0, 0, False)
