"""Which calls were made with a tenant's own key, and what those cost at list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from worker.ledger.columns import Usd

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make them."""
    op.add_column(
        "llm_usage_events", sa.Column("own_key", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("llm_usage_events", sa.Column("list_usd", Usd))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("llm_usage_events", "list_usd")
    op.drop_column("llm_usage_events", "own_key")
