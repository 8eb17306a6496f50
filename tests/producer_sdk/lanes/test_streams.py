"""A job's stream: who may write into it, once, how much of it is kept, and how it ends."""

from __future__ import annotations

from dataclasses import replace

from producer_sdk.lanes import Appended, Delivery
from tests.producer_sdk.lanes.hall import LEASE_MS, START_MS, Hall, ended, job

LETTERS = (b"a", b"b", b"c")


async def held(hall: Hall, name: str = "a") -> Delivery:
    await hall.put(job(name))
    [delivery] = await hall.take()
    return delivery


async def entries(hall: Hall, name: str = "a") -> list[tuple[str, bytes]]:
    """The stream's entries: number and event."""
    found = await hall.client.xrange(hall.lanes.keys.stream(name))
    return [(entry_id.decode().partition("-")[2], fields[b"event"]) for entry_id, fields in found]


async def test_what_the_holder_appends_is_in_the_stream_in_order(hall: Hall) -> None:
    delivery = await held(hall)
    assert await hall.lanes.append([Appended(delivery.tag, 1, LETTERS[:2])]) == [True]
    assert await hall.lanes.append([Appended(delivery.tag, 2, LETTERS[2:])]) == [True]
    assert await entries(hall) == [("1", b"a"), ("2", b"b"), ("3", b"c")]
    first_id = (await hall.client.xrange(hall.lanes.keys.stream("a")))[0][0]
    assert first_id.decode() == f"{hall.now_ms}-1"
    assert hall.now_ms > START_MS


async def test_an_append_whose_reply_was_lost_is_repeated_without_harm(hall: Hall) -> None:
    delivery = await held(hall)
    for _ in range(2):
        assert await hall.lanes.append([Appended(delivery.tag, 1, LETTERS)]) == [True]
    assert len(await entries(hall)) == 3


async def test_a_worker_that_has_lost_its_lease_writes_nothing(hall: Hall) -> None:
    lost = await held(hall)
    await hall.lanes.append([Appended(lost.tag, 1, (b"old",))])
    await hall.lose()
    assert await hall.lanes.append([Appended(lost.tag, 2, (b"late",))]) == [False]
    [again] = await hall.take()
    assert await hall.lanes.append(
        [Appended(lost.tag, 2, (b"late",)), Appended(again.tag, 1, (b"new",))]
    ) == [
        False,
        True,
    ]
    assert await entries(hall) == [("1", b"old"), ("2", b"new")]


async def test_a_job_that_was_handed_back_or_finished_takes_no_more(hall: Hall) -> None:
    delivery = await held(hall)
    await hall.lanes.hand_back(delivery.tag)
    assert await hall.lanes.append([Appended(delivery.tag, 1, LETTERS)]) == [False]
    [again] = await hall.take()
    await hall.finish(again)
    assert await hall.lanes.append([Appended(again.tag, 1, LETTERS)]) == [False]
    assert await entries(hall) == []


async def test_the_end_comes_once_with_the_result_and_only_where_it_is_asked_for(hall: Hall) -> None:
    delivery, other = await held(hall), await held(hall, "b")
    await hall.lanes.append([Appended(delivery.tag, 1, LETTERS[:1])])
    last = replace(ended(delivery), ending=b"the end")
    assert await hall.lanes.finish([last, ended(other)]) == [True, True]
    assert await hall.lanes.finish([last]) == [True]
    assert await entries(hall) == [("1", b"a"), ("2", b"the end")]
    assert await entries(hall, "b") == []
    assert await hall.client.hget(hall.lanes.keys.root + "job:a", "streamed") is None


async def test_whose_end_is_not_the_holders_ends_no_stream(hall: Hall) -> None:
    lost = await held(hall)
    await hall.lose()
    assert await hall.lanes.finish([replace(ended(lost), ending=b"the end")]) == [False]
    assert await entries(hall) == []


async def test_a_stream_lives_an_hour_after_an_append_and_ten_minutes_after_its_end(hall: Hall) -> None:
    delivery = await held(hall)
    key = hall.lanes.keys.stream("a")
    await hall.lanes.append([Appended(delivery.tag, 1, LETTERS)])
    assert 3590 < await hall.client.ttl(key) <= 3600
    await hall.lanes.finish([replace(ended(delivery), ending=b"the end", ttl_s=86_400)])
    assert 590 < await hall.client.ttl(key) <= 600


async def test_a_stream_never_outlives_its_result(hall: Hall) -> None:
    delivery = await held(hall)
    await hall.lanes.finish([replace(ended(delivery), ending=b"the end", ttl_s=30)])
    assert 0 < await hall.client.ttl(hall.lanes.keys.stream("a")) <= 30


async def test_of_many_entries_the_last_thousand_are_kept_under_their_numbers(hall: Hall) -> None:
    delivery = await held(hall)
    await hall.lanes.append([Appended(delivery.tag, 1, tuple(b"%d" % number for number in range(1, 1201)))])
    kept = await entries(hall)
    assert (len(kept), kept[0], kept[-1]) == (1000, ("201", b"201"), ("1200", b"1200"))


async def test_a_stream_is_not_much_larger_than_a_megabyte(hall: Hall) -> None:
    delivery = await held(hall)
    for number in range(1, 30):
        await hall.lanes.append([Appended(delivery.tag, number, tuple(b"x" * 16_384 for _ in range(10)))])
        assert await hall.client.memory_usage(hall.lanes.keys.stream("a"), samples=0) < 1_400_000
    kept = await entries(hall)
    assert kept[-1][0] == "290"
    assert [int(number) for number, _ in kept] == list(range(291 - len(kept), 291))


async def test_appends_of_many_jobs_go_in_few_scripts_and_are_answered_one_by_one(hall: Hall) -> None:
    await hall.put(*(job(f"j{number}") for number in range(100)))
    deliveries = await hall.take(100)
    await hall.finish(deliveries[7])
    told = await hall.lanes.append([Appended(one.tag, 1, (one.job_id.encode(),)) for one in deliveries])
    assert [number for number, live in enumerate(told) if not live] == [7]
    assert await entries(hall, deliveries[99].job_id) == [("1", deliveries[99].job_id.encode())]


async def test_a_new_stream_after_the_old_one_has_gone_has_greater_ids(hall: Hall) -> None:
    delivery = await held(hall)
    key = hall.lanes.keys.stream("a")
    await hall.lanes.append([Appended(delivery.tag, 1, LETTERS)])
    [last] = await hall.client.xrevrange(key, count=1)
    await hall.client.delete(key)
    await hall.live_on(LEASE_MS // 3, [delivery.tag])
    await hall.lanes.append([Appended(delivery.tag, 2, (b"anew",))])
    [[_key, [(entry_id, fields)]]] = await hall.client.xread({key: last[0]})
    assert (entry_id.decode().partition("-")[2], fields) == ("1", {b"event": b"anew"})
