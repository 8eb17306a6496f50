"""`fairlane doctor books` on real books, right and wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis.asyncio

from producer_sdk.contract import uuid7
from tests.servers import Valkey
from tests.stories.conftest import home_settings
from tests.worker.money_desk import Desk, attempt_of, open_desk
from worker.budget.store import BatchName, Reserved
from worker.cli.book_checks import compared
from worker.cli.budget_windows import all_windows
from worker.job_run import utc_now
from worker.ledger.ledger import Ledger
from worker.routing_load import load
from worker.settings import WorkerSettings


@pytest.fixture
def settings(valkey: Valkey, namespace: str, tmp_path: Path) -> WorkerSettings:
    usual = home_settings(tmp_path)
    fleet = replace(usual.fleet, broker_url=valkey.broker_url, namespace=namespace)
    Ledger(usual.ledger_url).migrate()
    return replace(usual, fleet=fleet)


@pytest.fixture
async def desk(settings: WorkerSettings, client: redis.asyncio.Redis) -> Desk:
    desk = open_desk(client, settings.fleet.namespace, settings.ledger_url)
    await desk.books.rebuild()
    yield desk
    await desk.close()


async def test_books_that_agree_are_counted(settings: WorkerSettings, desk: Desk) -> None:
    await desk.whole(40, 10)
    held = attempt_of(30)
    assert await desk.reserve(held)
    assert await desk.journal(held)
    assert await compared(settings) == (1, [])


async def test_each_window_that_differs_is_said_with_both_amounts(
    settings: WorkerSettings, desk: Desk
) -> None:
    attempt = await desk.whole(40, 10)
    await desk.store.settle(attempt.id, amount_pico=25)
    count, [difference] = await compared(settings)
    assert count == 1
    assert (difference.window, difference.redis, difference.ledger) == (attempt.windows[0], (25, 0), (10, 0))
    assert difference.said() == (
        "spent: $0.000000000025 in Redis, $0.00000000001 in the ledger; held: $0 in Redis, $0 in the ledger"
    )


async def test_what_redis_alone_holds_is_said_where_routing_limits_the_window(
    settings: WorkerSettings, desk: Desk
) -> None:
    [window, *_] = all_windows(load(settings.routing_path))
    assert isinstance(await desk.store.reserve(uuid7(), amount_pico=7, windows=[window]), Reserved)
    count, [difference] = await compared(settings)
    assert (count, difference.window, difference.redis, difference.ledger) == (1, window.name, (0, 7), (0, 0))


async def test_what_an_open_batch_holds_is_no_difference(settings: WorkerSettings, desk: Desk) -> None:
    [window, *_] = all_windows(load(settings.routing_path))
    batch, now = BatchName("acme", uuid7()), utc_now()
    reserved = await desk.store.open_batch(batch, amount_pico=50, windows=[window], now=now)
    assert isinstance(reserved, Reserved)
    assert [one.redis for one in (await compared(settings))[1]] == [(0, 50)]
    stands = await desk.ledger.open_batch(
        batch.id,
        tenant="acme",
        reserved_pico=50,
        lines=1,
        windows=reserved.covered,
        expires_at=now,
        epoch=reserved.epoch,
    )
    assert not isinstance(stands, str)
    assert await compared(settings) == (1, [])


async def test_without_books_there_is_nothing_to_compare(settings: WorkerSettings, desk: Desk) -> None:
    await desk.flush()
    assert await compared(settings) == (None, [])
