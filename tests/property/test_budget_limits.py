"""Whatever is reserved, settled, freed, topped up and set, in any order: no window is admitted past its limit."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from producer_sdk.contract import uuid7
from tests.servers import Valkey
from worker.budget.rules import WindowLimit
from worker.budget.store import BudgetStore, LimitChanges, Reserved

DAY, MONTH = "t:acme:d:2026-11-24", "t:acme:m:2026-11"
OWN = {DAY: 100, MONTH: 250}
amounts = st.integers(0, 120)
moves = st.one_of(
    st.tuples(st.just("reserve"), amounts),
    st.tuples(st.just("settle"), st.integers(0, 100)),  # in percent of what is held
    st.tuples(st.just("free"), st.just(0)),
    st.tuples(st.just("set"), st.sampled_from([0, 40, 100, 400])),
    st.tuples(st.just("top_up"), st.integers(1, 60)),
    st.tuples(st.just("late"), st.integers(0, 100)),
)


def windows() -> list[WindowLimit]:
    """A day's and a month's."""
    resets = datetime(2026, 12, 1, tzinfo=UTC)
    return [
        WindowLimit(DAY, OWN[DAY], "2026-11-24", resets),
        WindowLimit(MONTH, OWN[MONTH], "2026-11", resets),
    ]


async def walk(client: redis.asyncio.Redis, steps: list[tuple[str, int]]) -> None:
    store = BudgetStore(client, namespace=f"p{uuid.uuid4().hex[:10]}")
    await store.install(epoch=1, settled={}, holds=[])
    held: dict[uuid.UUID, int] = {}
    settled: dict[uuid.UUID, int] = {}
    set_to, top_up, version = OWN[DAY], 0, 0
    for move, number in steps:
        spent, holds = sum(settled.values()), sum(held.values())
        limits = {DAY: set_to + top_up, MONTH: OWN[MONTH]}
        if move == "reserve":
            attempt = uuid7()
            reply = await store.reserve(attempt, amount_pico=number, windows=windows())
            fits = all(spent + holds + number <= limit for limit in limits.values())
            assert isinstance(reply, Reserved) == fits
            if fits:
                held[attempt] = number
        elif move in ("settle", "free") and held:
            attempt, amount = next(iter(held.items()))
            settled[attempt] = amount * number // 100
            await store.settle(attempt, amount_pico=settled[attempt])
            del held[attempt]
        elif move == "late" and settled:
            attempt = next(iter(settled))
            await store.settle(attempt, amount_pico=settled[attempt])  # again: it changes nothing
        elif move in ("set", "top_up"):
            version += 1
            set_to, top_up = (number, top_up) if move == "set" else (set_to, top_up + number)
            await store.set_limits(LimitChanges(version, {"t:acme:d": set_to}, {DAY: top_up}))
        assert (
            await store.window(DAY)
            == await store.window(MONTH)
            == (sum(settled.values()), sum(held.values()))
        )
    for attempt in held:
        await store.free([attempt])
    assert (await store.window(DAY))[1] == 0
    assert await store.holds(grace_ms=-60_000) == []


def test_no_window_is_admitted_past_its_limit_whatever_is_changed_meanwhile(valkey: Valkey) -> None:
    @settings(max_examples=60, database=None)
    @given(st.lists(moves, min_size=5, max_size=40))
    def walks(steps: list[tuple[str, int]]) -> None:
        async def run() -> None:
            async with redis.asyncio.Redis.from_url(valkey.redis_url) as client:
                await walk(client, steps)

        asyncio.run(run())

    walks()
