"""Batches that reserve their sum before their lines, and which run came from which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from worker.ledger.columns import Names, UtcTime

revision = "0004"
down_revision = "0003"

IS_OPEN = sa.text("state = 'open'")
IS_LINE = sa.text("batch_id IS NOT NULL")


def upgrade() -> None:
    """Make the tables, and let attempts and jobs name their batch."""
    op.create_table(
        "llm_batches",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reserved_pico", sa.BigInteger, nullable=False),
        sa.Column("lines", sa.Integer, nullable=False),
        sa.Column("windows", Names, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("expires_at", UtcTime, nullable=False),
        sa.Column("closed_at", UtcTime),
    )
    op.create_index("llm_batches_open", "llm_batches", ["id"], sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)
    op.create_table(
        "llm_runs",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("parent_run_id", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    for table in ("llm_attempts", "llm_jobs"):
        op.add_column(table, sa.Column("batch_id", sa.Uuid))
        op.create_index(
            f"{table}_by_batch", table, ["batch_id"], sqlite_where=IS_LINE, postgresql_where=IS_LINE
        )


def downgrade() -> None:
    """Drop them; what a batch still holds is no tenant's any more."""
    for table in ("llm_jobs", "llm_attempts"):
        op.drop_index(f"{table}_by_batch", table)
        op.drop_column(table, "batch_id")
    op.drop_table("llm_runs")
    op.drop_table("llm_batches")
