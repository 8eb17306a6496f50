"""What operators change while the fleet runs: it holds at once, for every worker, and through a rebuild."""

from __future__ import annotations

from producer_sdk.contract import uuid7
from worker.budget.store import BudgetStore, LimitChanges, Refused, Reserved

DAY, SCOPE = "t:acme:d:2026-11-23", "t:acme:d"


async def admits(store: BudgetStore, amount: int, window) -> bool:
    reply = await store.reserve(uuid7(), amount_pico=amount, windows=[window])
    assert isinstance(reply, Reserved | Refused)
    return isinstance(reply, Reserved)


async def test_a_limit_that_was_set_goes_before_the_workers_until_it_is_taken_back(store, window):
    assert await store.set_limits(LimitChanges(1, limits={SCOPE: 10})) == 1
    refused = await store.reserve(uuid7(), amount_pico=11, windows=[window(100)])
    assert isinstance(refused, Refused)
    assert refused.window.limit_pico == 10
    await store.set_limits(LimitChanges(2))
    assert await admits(store, 11, window(100))


async def test_a_limit_may_be_set_to_nothing(store, window):
    await store.set_limits(LimitChanges(1, limits={SCOPE: 0}))
    assert not await admits(store, 1, window(100))


async def test_a_top_up_is_one_windows_alone(store, window):
    await store.set_limits(LimitChanges(1, top_ups={DAY: 50}))
    assert await admits(store, 150, window(100))
    assert not await admits(store, 1, window(100))
    assert not await admits(store, 101, window(100, "t:acme:d:2026-11-24"))


async def test_amounts_beyond_what_lua_can_count_are_added_exactly(store, window):
    most = 2**61
    await store.set_limits(LimitChanges(1, limits={SCOPE: most}, top_ups={DAY: 3}))
    assert await admits(store, most + 3, window(0))
    assert not await admits(store, 1, window(0))


async def test_an_older_version_that_comes_late_changes_nothing(store, window):
    await store.set_limits(LimitChanges(3, limits={SCOPE: 10}))
    assert await store.set_limits(LimitChanges(2, limits={SCOPE: 1000})) == 1
    assert not await admits(store, 11, window(100))
    assert await store.limit_changes() == LimitChanges(3, {SCOPE: 10}, {})


async def test_a_rebuild_takes_them_along(store, window):
    changes = LimitChanges(7, limits={SCOPE: 10}, top_ups={DAY: 2})
    assert await store.install(epoch=2, settled={}, holds=[], changes=changes)
    assert await store.limit_changes() == changes
    assert await admits(store, 12, window(100))
    assert not await admits(store, 1, window(100))


async def test_without_books_there_is_nothing_to_change(client, namespace):
    store = BudgetStore(client, namespace=f"{namespace}-empty")
    assert await store.set_limits(LimitChanges(1, limits={SCOPE: 10})) is None
    assert await store.limit_changes() == LimitChanges()
