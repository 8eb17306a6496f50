"""The budget's scripts on a real Valkey: all or nothing, exact, safe to repeat, fail closed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest
import redis.asyncio

from producer_sdk.contract import Straight, uuid7
from tests.servers import Valkey
from worker.budget.rules import WindowLimit
from worker.budget.store import (
    BudgetStore,
    ClockApart,
    Hold,
    LimitChanges,
    NeedsRebuild,
    Refused,
    Reserved,
    Settled,
    Unknown,
)
from worker.errors import BudgetUnavailable

T = TypeVar("T")
DAY = "t:acme:d:2026-11-23"


class RepliesLost(Straight):
    """Every reply is lost once, so that the client repeats every script."""

    async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        await do()
        return await do()


async def test_a_reservation_holds_its_worst_case_until_it_is_settled(store, window):
    attempt = uuid7()
    assert await store.reserve(attempt, amount_pico=30, windows=[window(100)]) == Reserved(1)
    assert await store.window(DAY) == (0, 30)
    assert await store.settle(attempt, amount_pico=7) == Settled(1)
    assert await store.window(DAY) == (7, 0)


async def test_a_window_takes_exactly_its_limit_and_not_one_pico_more(store, window):
    limit = 4 * 10**18
    assert await store.reserve(uuid7(), amount_pico=limit - 1, windows=[window(limit)]) == Reserved(1)
    refused = await store.reserve(uuid7(), amount_pico=2, windows=[window(limit)])
    assert refused == Refused(window(limit), settled_pico=0, held_pico=limit - 1)
    assert await store.reserve(uuid7(), amount_pico=1, windows=[window(limit)]) == Reserved(1)


async def test_sums_stay_exact_beyond_what_lua_can_count(store, window):
    limit = 2**53 + 3
    first, second = uuid7(), uuid7()
    await store.reserve(first, amount_pico=2**53, windows=[window(limit)])
    await store.reserve(second, amount_pico=3, windows=[window(limit)])
    assert isinstance(await store.reserve(uuid7(), amount_pico=1, windows=[window(limit)]), Refused)
    await store.settle_all({first: 2**53 - 1, second: 1})
    assert await store.window(DAY) == (2**53, 0)


async def test_several_windows_are_held_together_or_not_at_all(store, window):
    wide, narrow = window(100), window(10, "t:acme:m:2026-11")
    refused = await store.reserve(uuid7(), amount_pico=11, windows=[wide, narrow])
    assert refused == Refused(narrow, settled_pico=0, held_pico=0)
    assert (await store.standing([wide.name, narrow.name])).windows == {
        wide.name: (0, 0),
        narrow.name: (0, 0),
    }


async def test_an_amount_above_every_possible_limit_is_refused(store, window):
    assert isinstance(await store.reserve(uuid7(), amount_pico=10**30, windows=[window(4 * 10**18)]), Refused)


async def test_interleaving_3_a_repeated_script_counts_once(client, namespace, window):
    store = BudgetStore(client, namespace=namespace, crossing=RepliesLost())
    hold = Hold(uuid7(), 5, (DAY,))
    assert await store.install(epoch=3, settled={DAY: 40}, holds=[hold])
    assert await store.window(DAY) == (40, 5)
    attempt = uuid7()
    assert await store.reserve(attempt, amount_pico=30, windows=[window(100)]) == Reserved(3)
    assert await store.window(DAY) == (40, 35)
    assert await store.settle_all({attempt: 7, hold.attempt_id: 0}) == {
        attempt: Settled(3),
        hold.attempt_id: Settled(3),
    }
    assert await store.window(DAY) == (47, 0)


async def test_a_late_settle_moves_the_window_by_the_difference(store, window):
    attempt = uuid7()
    await store.reserve(attempt, amount_pico=30, windows=[window(100)])
    await store.settle(attempt, amount_pico=30)
    assert await store.window(DAY) == (30, 0)
    await store.settle(attempt, amount_pico=12)
    assert await store.window(DAY) == (12, 0)


async def test_the_reapers_worst_case_never_replaces_what_a_worker_brought_meanwhile(store, window):
    attempt = uuid7()
    await store.reserve(attempt, amount_pico=30, windows=[window(100)])
    await store.settle(attempt, amount_pico=12)
    assert await store.settle(attempt, amount_pico=30) == Settled(1)
    assert await store.window(DAY) == (12, 0)


async def test_settling_what_the_books_do_not_know_changes_nothing(store):
    assert await store.settle(uuid7(), amount_pico=5) == Unknown(1)
    assert await store.window(DAY) == (0, 0)


async def test_many_reservers_at_once_never_pass_the_limit(valkey: Valkey, store, window, namespace):
    async def reserver() -> int:
        connection = redis.asyncio.Redis.from_url(valkey.redis_url)
        own, admitted = BudgetStore(connection, namespace=namespace), 0
        for _ in range(25):
            attempt = uuid7()
            if isinstance(await own.reserve(attempt, amount_pico=7, windows=[window(500)]), Reserved):
                admitted += 1
        await connection.aclose()
        return admitted

    admitted = sum(await asyncio.gather(*(reserver() for _ in range(20))))
    assert admitted == 500 // 7
    assert await store.window(DAY) == (0, admitted * 7)


async def test_without_books_nothing_is_admitted(client, namespace, window):
    store = BudgetStore(client, namespace=namespace)
    assert await store.reserve(uuid7(), amount_pico=1, windows=[window(10)]) == NeedsRebuild()
    assert await store.settle(uuid7(), amount_pico=1) == Unknown(0)
    assert await store.holds(grace_ms=0) == []
    assert (await store.standing([DAY])).epoch is None


async def test_books_of_another_server_run_admit_nothing(client, namespace, window):
    before = BudgetStore(client, namespace=namespace, run_id_override="before")
    await before.install(epoch=1, settled={}, holds=[])
    assert await before.reserve(uuid7(), amount_pico=1, windows=[window(10)]) == Reserved(1)
    after = BudgetStore(client, namespace=namespace)
    assert await after.reserve(uuid7(), amount_pico=1, windows=[window(10)]) == NeedsRebuild()


async def test_an_older_rebuild_never_replaces_a_newer_one(store):
    assert await store.install(epoch=7, settled={DAY: 70}, holds=[])
    assert not await store.install(epoch=6, settled={DAY: 60}, holds=[])
    assert await store.window(DAY) == (70, 0)


async def test_a_rebuild_of_thousands_of_rows_is_installed_in_parts(store, window):
    holds = [Hold(uuid7(), 2, (f"t:{n % 1500}:d:2026-11-23",)) for n in range(1600)]
    settled = {f"t:{n}:d:2026-11-23": n for n in range(1500)}
    assert await store.install(epoch=2, settled=settled, holds=holds)
    assert await store.window("t:50:d:2026-11-23") == (50, 4)
    assert await store.window("t:1400:d:2026-11-23") == (1400, 2)
    assert len(await store.holds(grace_ms=-1000, limit=2000)) == 1600
    assert await store.settle(holds[50].attempt_id, amount_pico=1) == Settled(2)
    assert await store.window("t:50:d:2026-11-23") == (51, 2)


async def test_a_flush_between_the_parts_of_a_rebuild_leaves_no_books(client, namespace):
    class FlushedBefore(Straight):
        async def cross(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
            if name == "redis:budget_install":
                for key in [key async for key in client.scan_iter(f"{namespace}:*")]:
                    await client.delete(key)
            return await do()

    store = BudgetStore(client, namespace=namespace, crossing=FlushedBefore())
    assert not await store.install(epoch=2, settled={DAY: 5}, holds=[])
    assert (await store.standing()).epoch is None


async def test_holds_are_listed_oldest_first_once_they_are_older_than_the_grace(store, window):
    attempts = [uuid7() for _ in range(3)]
    for attempt in attempts:
        await store.reserve(attempt, amount_pico=1, windows=[window(10)])
    await store.settle(attempts[1], amount_pico=1)
    assert await store.holds(grace_ms=60_000) == []
    assert set(await store.holds(grace_ms=-1000)) == {attempts[0], attempts[2]}
    assert len(await store.holds(grace_ms=-1000, skip=1)) == 1


@pytest.mark.parametrize("hours", [-13, 13])
async def test_a_worker_whose_clock_is_half_a_day_away_reserves_nothing(store, window, hours: int):
    apart_ms = hours * 3_600_000
    elsewhere = uuid.UUID(int=uuid7().int + (apart_ms << 80))
    answer = await store.reserve(elsewhere, amount_pico=1, windows=[window(10)])
    assert isinstance(answer, ClockApart)
    assert abs(answer.apart_ms - apart_ms) < 60_000


async def test_a_clock_that_jumps_by_an_hour_stops_nobody(store, window):
    hour_ago = uuid.UUID(int=uuid7().int - (3_600_000 << 80))
    assert await store.reserve(hour_ago, amount_pico=1, windows=[window(10)]) == Reserved(1)


async def test_every_key_but_the_books_expires(client, namespace, store, window):
    attempt = uuid7()
    await store.reserve(attempt, amount_pico=1, windows=[window(10)])
    await store.install(epoch=2, settled={DAY: 1}, holds=[Hold(uuid7(), 1, (DAY,))])
    lasting = [key async for key in client.scan_iter(f"{namespace}:*") if await client.pttl(key) < 0]
    assert lasting == [f"{namespace}:{{fleet}}:budget".encode()]


async def test_a_broker_that_does_not_answer_is_an_error_within_the_timeout(own_valkey: Valkey, window):
    connection = redis.asyncio.Redis.from_url(own_valkey.redis_url)
    store = BudgetStore(connection, timeout_s=0.2)
    await store.install(epoch=1, settled={}, holds=[])
    own_valkey.pause()
    try:
        with pytest.raises(BudgetUnavailable, match="TimeoutError"):
            await store.reserve(uuid7(), amount_pico=1, windows=[window(10)])
    finally:
        own_valkey.resume()
        await connection.aclose()


async def soft(store: BudgetStore, settled: int, asked: WindowLimit) -> list[int]:
    """The soft limits that the next attempt meets once so much more is settled."""
    attempt = uuid7()
    assert isinstance(await store.reserve(attempt, amount_pico=settled, windows=[asked]), Reserved)
    await store.settle(attempt, amount_pico=settled)
    answer = await store.reserve(uuid7(), amount_pico=0, windows=[asked])
    assert isinstance(answer, Reserved)
    assert all(one.window == asked for one in answer.soft)
    return [one.percent for one in answer.soft]


async def test_a_soft_limit_is_said_once_when_what_is_settled_has_reached_it(store, window):
    asked = replace(window(100), soft_limit=(50, 80, 95))
    assert await soft(store, 49, asked) == []
    assert await soft(store, 1, asked) == [50]
    assert await soft(store, 10, asked) == []
    assert await soft(store, 36, asked) == [95]
    assert await soft(store, 1, asked) == []


async def test_a_soft_limit_is_said_by_a_refusal_too_and_again_after_a_top_up(store, window):
    asked = replace(window(100), soft_limit=(90,))
    attempt = uuid7()
    await store.reserve(attempt, amount_pico=95, windows=[asked])
    await store.settle(attempt, amount_pico=95)
    refused = await store.reserve(uuid7(), amount_pico=50, windows=[asked])
    assert isinstance(refused, Refused)
    assert [one.percent for one in refused.soft] == [90]
    await store.set_limits(LimitChanges(1, {}, {asked.name: 100}))
    assert await soft(store, 80, asked) == []
    assert await soft(store, 10, asked) == [90]
