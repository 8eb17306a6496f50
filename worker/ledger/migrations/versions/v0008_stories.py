"""What a job's steps have noted of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make it."""
    op.add_column("llm_jobs", sa.Column("story", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("llm_jobs", "story")
