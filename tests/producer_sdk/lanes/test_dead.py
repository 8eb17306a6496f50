"""Dead letters: kept with their reason and message, listed, replayed, taken off."""

from __future__ import annotations

from dataclasses import replace

from producer_sdk.lanes import Finished
from tests.producer_sdk.lanes.hall import TTL_S, Hall, job


async def bury(hall: Hall, *names: str, tenant: str = "acme") -> None:
    """Jobs that no worker could read."""
    await hall.put(*(job(name, tenant) for name in names))
    for held in await hall.take(len(names)):
        await hall.lanes.finish([Finished(held.tag, b"refused", TTL_S, None, dead="it cannot be read")])


async def test_a_job_that_no_worker_can_read_is_answered_and_listed(hall: Hall) -> None:
    await bury(hall, "a")
    assert (await hall.state("a"), await hall.result("a")) == ("finished", b"refused")
    [dead] = await hall.lanes.dead()
    assert (dead.job_id, dead.tenant, dead.deliveries, dead.reason) == ("a", "acme", 1, "it cannot be read")
    assert await hall.lanes.dead_message("a") == job("a").message


async def test_the_newest_come_first_and_one_tenants_can_be_asked_for(hall: Hall) -> None:
    for number in range(4):
        await bury(hall, f"j{number}", tenant=("acme", "zenith")[number % 2])
        await hall.at(hall.now_ms + 1)
    assert [dead.job_id for dead in await hall.lanes.dead()] == ["j3", "j2", "j1", "j0"]
    assert [dead.job_id for dead in await hall.lanes.dead(tenant="zenith")] == ["j3", "j1"]
    assert [dead.job_id for dead in await hall.lanes.dead(2)] == ["j3", "j2"]


async def test_more_than_one_scripts_worth_is_listed(hall: Hall) -> None:
    await hall.cap(2000)
    for start in range(0, 600, 100):
        await bury(hall, *(f"j{start + number:03}" for number in range(100)))
    assert len(await hall.lanes.dead(1000)) == 600
    assert len(await hall.lanes.dead(1000, tenant="nobody")) == 0


async def test_what_is_discarded_is_gone_and_counted_once(hall: Hall) -> None:
    await bury(hall, "a", "b")
    assert await hall.lanes.discard(["a", "never"]) == 1
    assert await hall.lanes.discard(["a"]) == 0
    assert [dead.job_id for dead in await hall.lanes.dead()] == ["b"]
    assert await hall.lanes.dead_message("a") is None


async def test_a_late_end_of_another_worker_lists_nothing(hall: Hall) -> None:
    await hall.put(job("a"))
    [held] = await hall.take()
    late = replace(held, tag="a:late")
    assert await hall.lanes.finish([Finished(late.tag, b"x", TTL_S, None, dead="no")]) == [False]
    assert await hall.lanes.dead() == []


async def test_damaged_records_that_wait_or_only_need_their_end_are_listed_too(hall: Hall) -> None:
    root = hall.lanes.keys.root
    await hall.put(job("delayed", due_ms=hall.now_ms + 10), job("closing"))
    await hall.lanes.cancel("closing")
    await hall.client.delete(root + "message:delayed", root + "job:closing", root + "message:closing")
    await hall.at(hall.now_ms + 20)
    assert await hall.names(9) == []
    assert {dead.job_id for dead in await hall.lanes.dead()} == {"delayed", "closing"}
