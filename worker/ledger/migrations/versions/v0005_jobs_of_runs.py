"""Which run a job is of, and indexes by which a run's tree is read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

IN_RUN = sa.text("run_id IS NOT NULL")


def upgrade() -> None:
    """Make them."""
    op.add_column("llm_jobs", sa.Column("run_id", sa.Text))
    op.create_index(
        "llm_jobs_by_run",
        "llm_jobs",
        ["tenant", "run_id"],
        sqlite_where=IN_RUN,
        postgresql_where=IN_RUN,
    )
    op.create_index("llm_runs_by_parent", "llm_runs", ["tenant", "parent_run_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("llm_runs_by_parent", "llm_runs")
    op.drop_index("llm_jobs_by_run", "llm_jobs")
    op.drop_column("llm_jobs", "run_id")
