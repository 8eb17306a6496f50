"""PostgreSQL keeps usage events in a partition a month. What no month takes goes to a last one, so nothing is lost."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, text

MONTHS_AHEAD = 3


def add_partitions(connection: Connection, *, today: date | None = None) -> None:
    """Make the partitions of this month and the next three, where they are not there yet."""
    if connection.dialect.name != "postgresql":
        return
    first = (today or datetime.now(UTC).date()).replace(day=1)
    for _ in range(MONTHS_AHEAD + 1):
        following = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
        _add_month(connection, first, following)
        first = following


def _add_month(connection: Connection, first: date, following: date) -> None:
    """Attach a month; its rows that have gone to the last partition meanwhile move into it."""
    name = f"llm_usage_events_{first:%Y_%m}"
    if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is not None:
        return
    span = f"'{first}' AND created_at < '{following}'"
    connection.execute(text(f"CREATE TABLE {name} (LIKE llm_usage_events INCLUDING DEFAULTS)"))
    connection.execute(
        text(
            f"WITH moved AS (DELETE FROM llm_usage_events_rest WHERE created_at >= {span} RETURNING *) "  # noqa: S608 - dates
            f"INSERT INTO {name} SELECT * FROM moved"
        )
    )
    bounds = f"FOR VALUES FROM ('{first}') TO ('{following}')"
    connection.execute(text(f"ALTER TABLE llm_usage_events ATTACH PARTITION {name} {bounds}"))
