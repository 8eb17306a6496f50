"""What operators have changed of budgets while the fleet ran: a log that is only added to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from worker.ledger.columns import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "llm_limit_changes",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("amount_pico", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
    )


def downgrade() -> None:
    """Drop it, with all that is in it."""
    op.drop_table("llm_limit_changes")
