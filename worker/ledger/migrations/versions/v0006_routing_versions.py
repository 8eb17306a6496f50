"""Every routing.yaml that a fleet has had, and which of them each of its workers has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from worker.ledger.columns import UtcTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "llm_routing_versions",
        sa.Column("fleet", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("around", sa.LargeBinary, nullable=False),
        sa.Column("published_by", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_table(
        "llm_routing_workers",
        sa.Column("fleet", sa.Text, primary_key=True),
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("refused", sa.Text),
        sa.Column("seen_at", UtcTime, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("llm_routing_workers")
    op.drop_table("llm_routing_versions")
