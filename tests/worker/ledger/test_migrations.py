"""The tables' history: up, down, and equal to what the code believes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from tests.worker.ledger.writing import PAID, journalled, opened
from worker.errors import ConfigError
from worker.ledger import migrations
from worker.ledger.database import open_engine
from worker.ledger.ledger import Ledger
from worker.ledger.partitions import add_partitions
from worker.ledger.tables import METADATA

TABLES = {"llm_usage_events", "llm_attempts", "llm_jobs", "llm_epoch"}
SEED_ROW = (
    "INSERT INTO llm_usage_events (tenant_id, feature_name, model_id, input_tokens, output_tokens, cost_usd) "
    "VALUES ('acme', 'chat', 'gpt', 10, 2, 0.012345)"
)


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    """An empty database."""
    opened_engine = open_engine(ledger_url, timeout_s=10)
    yield opened_engine
    opened_engine.dispose()


def test_up_and_down_and_up_again(engine):
    migrations.upgrade(engine)
    assert set(inspect(engine).get_table_names()) >= TABLES
    migrations.downgrade(engine, "base")
    assert {name for name in inspect(engine).get_table_names() if name.startswith("llm_")} == set()
    migrations.upgrade(engine)
    with engine.connect() as connection:
        assert migrations.is_current(connection)


def test_the_migrated_tables_are_those_that_the_code_knows(engine):
    migrations.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": _is_ours})
        assert compare_metadata(context, METADATA) == []


def _is_ours(_item, name, kind, _reflected, _compared_to) -> bool:
    """Not the partitions of a table: they are PostgreSQL's own."""
    return not (kind == "table" and name.startswith("llm_usage_events_")) and name != "alembic_version"


def test_an_empty_database_is_not_current(engine):
    with engine.connect() as connection:
        assert not migrations.is_current(connection)


def test_a_database_of_a_newer_version_is_left_as_it_is(engine):
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    migrations.upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
        assert migrations.is_current(connection)


def test_a_url_that_is_none_is_told_so():
    for url in ("nonsense", "mysql://somewhere/db"):
        with pytest.raises(ConfigError, match="FAIRLANE_LEDGER_URL"):
            Ledger(url)


@pytest.fixture
def postgresql(postgres) -> Iterator[Engine]:
    """A migrated PostgreSQL database."""
    opened_engine = open_engine(postgres.new_database(), timeout_s=10)
    migrations.upgrade(opened_engine)
    yield opened_engine
    opened_engine.dispose()


def test_the_seeds_own_insert_works(postgresql):
    with postgresql.begin() as connection:
        connection.execute(text(SEED_ROW))
        row = connection.execute(text("SELECT id, cost_usd, created_at FROM llm_usage_events")).one()
    assert row.id is not None
    assert row.cost_usd == Decimal("0.012345")
    assert abs((datetime.now(UTC).replace(tzinfo=None) - row.created_at).total_seconds()) < 60


def test_events_lie_in_the_partition_of_their_month(postgresql):
    with postgresql.begin() as connection:
        connection.execute(text(SEED_ROW))
        found = connection.execute(text("SELECT tableoid::regclass::text FROM llm_usage_events")).scalar()
    assert found == f"llm_usage_events_{datetime.now(UTC):%Y_%m}"


def test_a_month_that_is_added_late_takes_its_rows_from_the_last_partition(postgresql):
    with postgresql.begin() as connection:
        connection.execute(text(SEED_ROW))
        connection.execute(text("UPDATE llm_usage_events SET created_at = '2124-02-29 23:59:59.999'"))
        where = text("SELECT tableoid::regclass::text FROM llm_usage_events")
        assert connection.execute(where).scalar() == "llm_usage_events_rest"
        add_partitions(connection, today=date(2124, 1, 31))
        add_partitions(connection, today=date(2124, 1, 31))
        assert connection.execute(where).scalar() == "llm_usage_events_2124_02"


async def test_migrating_a_ledger_in_use_loses_nothing(url, sql):
    async with opened(url) as ledger:
        await ledger.settle(await journalled(ledger), PAID)
        Ledger(url).migrate()
        assert await ledger.is_current()
    assert len(sql.events()) == 1
