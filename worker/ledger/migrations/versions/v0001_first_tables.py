"""The first four tables: usage events (the seed's columns and ours), the journal, jobs, the epoch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from worker.ledger.columns import Names, Usd, UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    _events()
    _attempts()
    _jobs()
    epoch = op.create_table(
        "llm_epoch",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(epoch, [{"id": 1, "epoch": 0}])


def downgrade() -> None:
    """Drop them, with all that is in them."""
    for table in ("llm_epoch", "llm_jobs", "llm_attempts", "llm_usage_events"):
        op.drop_table(table)


def _events() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    new_id = sa.text("gen_random_uuid()") if is_postgresql else None
    now = sa.text("(now() AT TIME ZONE 'utc')") if is_postgresql else sa.func.now()
    key = ("id", "created_at") if is_postgresql else ("id",)
    op.create_table(
        "llm_usage_events",
        sa.Column("id", sa.Uuid, nullable=False, server_default=new_id),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("feature_name", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("cost_usd", Usd, nullable=False),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("created_at", UtcTime, nullable=False, server_default=now),
        sa.Column("job_id", sa.Uuid),
        sa.Column("attempt", sa.Integer),
        *(sa.Column(name, sa.Text) for name in ("provider", "deployment", "task", "run_id")),
        *(sa.Column(name, sa.Text) for name in ("prompt_version", "status", "cache")),
        *(
            sa.Column(name, sa.Integer, nullable=False, server_default="0")
            for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
        ),
        sa.Column("saved_usd", Usd, nullable=False, server_default=sa.text("'0.000000000000'")),
        *(sa.Column(name, sa.Text) for name in ("rate_card_id", "routing_version", "error_code")),
        sa.Column("windows", Names),
        sa.PrimaryKeyConstraint(*key),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (created_at)",
    )
    op.create_index("llm_usage_events_by_tenant", "llm_usage_events", ["tenant_id", "created_at"])
    op.create_index("llm_usage_events_by_job", "llm_usage_events", ["job_id"])
    if is_postgresql:
        op.execute("CREATE TABLE llm_usage_events_rest PARTITION OF llm_usage_events DEFAULT")


def _attempts() -> None:
    op.create_table(
        "llm_attempts",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("job_id", sa.Uuid),
        sa.Column("tenant", sa.Text),
        sa.Column("tag", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("worst_pico", sa.BigInteger, nullable=False),
        sa.Column("cost_pico", sa.BigInteger, nullable=False),
        sa.Column("windows", Names, nullable=False),
        sa.Column("mirrored_epoch", sa.BigInteger),
        sa.Column("over_reserved", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("settled_at", UtcTime),
        sa.Column("origin", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("llm_attempts_by_job", "llm_attempts", ["job_id"])
    _partial("llm_attempts_in_flight", "llm_attempts", "id", "state = 'in_flight'")
    _partial(
        "llm_attempts_unmirrored", "llm_attempts", "id", "mirrored_epoch IS NULL AND state <> 'in_flight'"
    )


def _jobs() -> None:
    op.create_table(
        "llm_jobs",
        sa.Column("job_id", sa.Uuid, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("message", sa.LargeBinary),
        sa.Column("status", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("finished_at", UtcTime),
        sa.Column("purged_at", UtcTime),
    )
    _partial("llm_jobs_kept", "llm_jobs", "finished_at", "finished_at IS NOT NULL AND purged_at IS NULL")


def _partial(name: str, table: str, column: str, condition: str) -> None:
    words = sa.text(condition)
    op.create_index(name, table, [column], sqlite_where=words, postgresql_where=words)
