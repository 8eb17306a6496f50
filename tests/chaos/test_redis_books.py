"""What the scan finds in Redis is what the scripts have written, and what SQL says."""

from __future__ import annotations

import redis.asyncio

from tests.chaos.ledger_rows import LedgerRows
from tests.chaos.redis_books import read
from tests.worker.money_desk import attempt_of, open_desk
from worker.ledger.ledger import Ledger


async def test_the_scan_finds_every_hold_and_what_each_window_has_settled(
    client: redis.asyncio.Redis, namespace: str, ledger_url: str
) -> None:
    Ledger(ledger_url).migrate()
    desk, rows = open_desk(client, namespace, ledger_url), LedgerRows(ledger_url)
    assert (await read(client, namespace)).epoch is None
    await desk.books.rebuild()
    await desk.whole(60, 10)
    w1 = attempt_of(40)
    assert await desk.reserve(w1)
    assert (await read(client, namespace)).held.keys() == {str(w1.id)}
    assert rows.held() == {}
    assert await desk.journal(w1)
    found, (window,) = await read(client, namespace), w1.windows
    assert found.held == rows.held() != {}
    assert found.listed == {str(w1.id)}
    assert found.windows == {window: (10, 40)}
    assert (rows.spent(in_flight=False), rows.spent(in_flight=True)) == ({window: 10}, {window: 50})
    await desk.settle_in_sql(w1, 7)
    await desk.settle_in_redis(w1.id, 7)
    found = await read(client, namespace)
    assert (found.held, found.listed, found.windows) == ({}, frozenset(), {window: (17, 0)})
    assert rows.spent(in_flight=True) == {window: 17}
    rows.close()
    await desk.close()
