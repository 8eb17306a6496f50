"""Which fleet a job is of, and an index of those that have not ended: what a flushed broker must be given again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make them."""
    op.add_column("llm_jobs", sa.Column("fleet", sa.Text))
    is_open = sa.text("finished_at IS NULL")
    op.create_index("llm_jobs_open", "llm_jobs", ["job_id"], sqlite_where=is_open, postgresql_where=is_open)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("llm_jobs_open", "llm_jobs")
    op.drop_column("llm_jobs", "fleet")
