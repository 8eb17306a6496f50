"""A migrated ledger, once on SQLite and once on PostgreSQL, and a way to read its tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.worker.ledger.writing import Sql, opened
from worker.ledger.ledger import Ledger


@pytest.fixture
def url(ledger_url: str) -> str:
    """A migrated, empty database."""
    Ledger(ledger_url).migrate()
    return ledger_url


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[Ledger]:
    """A started ledger."""
    async with opened(url) as started:
        yield started


@pytest.fixture
def sql(url: str) -> Iterator[Sql]:
    """The same tables, read by the test."""
    reader = Sql(url)
    yield reader
    reader.close()
