"""An index of the jobs that have begun and not ended: what a broker that lost its memory must be given again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make it."""
    is_open = sa.text("finished_at IS NULL")
    op.create_index("llm_jobs_open", "llm_jobs", ["job_id"], sqlite_where=is_open, postgresql_where=is_open)


def downgrade() -> None:
    """Drop it."""
    op.drop_index("llm_jobs_open", "llm_jobs")
