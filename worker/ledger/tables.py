"""The tables. `migrations/` makes them; a test holds the two against each other."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    false,
    func,
    text,
)

from worker.ledger.columns import Names, Usd, UtcTime

METADATA = MetaData()

# `own_key`: a call with its tenant's own key costs nothing of ours, `list_usd` is what it cost at list.
# The seed's columns by the seed's names, then ours. One row for each attempt that was sent, one for each cache hit.
# In PostgreSQL it is partitioned by the month of created_at, which is a part of the id: the id stays unique.
EVENTS = Table(
    "llm_usage_events",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("feature_name", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cost_usd", Usd, nullable=False),
    Column("latency_ms", Integer),
    Column("created_at", UtcTime, primary_key=True, server_default=func.now()),
    Column("job_id", Uuid),
    Column("attempt", Integer),
    Column("provider", Text),
    Column("deployment", Text),
    Column("task", Text),
    Column("run_id", Text),
    Column("prompt_version", Text),
    Column("status", Text),
    Column("cache", Text),
    Column("cache_read_tokens", Integer, nullable=False, server_default="0"),
    Column("cache_write_tokens", Integer, nullable=False, server_default="0"),
    Column("reasoning_tokens", Integer, nullable=False, server_default="0"),
    Column("saved_usd", Usd, nullable=False, server_default=text("'0.000000000000'")),
    Column("rate_card_id", Text),
    Column("routing_version", Text),
    Column("error_code", Text),
    Column("windows", Names),
    Column("own_key", Boolean, nullable=False, server_default=false()),
    Column("list_usd", Usd),
    Index("llm_usage_events_by_tenant", "tenant_id", "created_at"),
    Index("llm_usage_events_by_job", "job_id"),
    sqlite_with_rowid=False,
)

# The journal. `origin` is what the ledger row will say of the call, whoever settles it. `mirrored_epoch`: the books in
# Redis of this epoch hold `cost_pico`; NULL: they may not yet.
ATTEMPTS = Table(
    "llm_attempts",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("job_id", Uuid),
    Column("tenant", Text),
    Column("tag", Text),
    Column("state", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("worst_pico", BigInteger, nullable=False),
    Column("cost_pico", BigInteger, nullable=False),
    Column("windows", Names, nullable=False),
    Column("mirrored_epoch", BigInteger),
    Column("over_reserved", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("origin", Text),
    Column("batch_id", Uuid),
    Index("llm_attempts_by_job", "job_id"),
    sqlite_with_rowid=False,
)
# Written out, for a partial index is only used where the statement says the same words.
IS_IN_FLIGHT = text("state = 'in_flight'")
IS_UNMIRRORED = text("mirrored_epoch IS NULL AND state <> 'in_flight'")
for name, condition in (("in_flight", IS_IN_FLIGHT), ("unmirrored", IS_UNMIRRORED)):
    Index(f"llm_attempts_{name}", ATTEMPTS.c.id, sqlite_where=condition, postgresql_where=condition)

# One row a job. `message` as it came and `result` as it ended are content: `purged_at` says when it was forgotten.
# `story` is what the steps have noted (worker/story.py), with no content in it.
JOBS = Table(
    "llm_jobs",
    METADATA,
    Column("job_id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("message", LargeBinary),
    Column("fleet", Text),
    Column("status", Text),
    Column("result", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("purged_at", UtcTime),
    Column("batch_id", Uuid),
    Column("run_id", Text),
    Column("story", Text),
)
IS_LINE = text("batch_id IS NOT NULL")
for table in (ATTEMPTS, JOBS):
    Index(f"{table.name}_by_batch", table.c.batch_id, sqlite_where=IS_LINE, postgresql_where=IS_LINE)
IS_OPEN = text("finished_at IS NULL")
Index("llm_jobs_open", JOBS.c.job_id, sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)
IS_KEPT = text("finished_at IS NOT NULL AND purged_at IS NULL")
Index("llm_jobs_kept", JOBS.c.finished_at, sqlite_where=IS_KEPT, postgresql_where=IS_KEPT)

IN_RUN = text("run_id IS NOT NULL")
Index("llm_jobs_by_run", JOBS.c.tenant, JOBS.c.run_id, sqlite_where=IN_RUN, postgresql_where=IN_RUN)

# A batch that has reserved its sum: `open` until its lines have ended, it was cancelled or has expired; then `closed`.
# Its windows hold what its lines (the attempts with its batch_id) have not drawn. `lines`: how many are to come.
BATCHES = Table(
    "llm_batches",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reserved_pico", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("windows", Names, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
)
IS_OPEN_BATCH = text("state = 'open'")
Index("llm_batches_open", BATCHES.c.id, sqlite_where=IS_OPEN_BATCH, postgresql_where=IS_OPEN_BATCH)

# Which run an agent run came from, as the first job that said so has it.
RUNS = Table(
    "llm_runs",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("parent_run_id", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("llm_runs_by_parent", "tenant", "parent_run_id"),
)

# What operators have changed of budgets. `set`: the limit of all windows of a scope (NULL: routing.yaml's again);
# `top_up`: added to one window.
LIMIT_CHANGES = Table(
    "llm_limit_changes",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("amount_pico", BigInteger),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

# One row: the epoch of the books in Redis. Whoever journals shares its lock, a rebuild takes it alone.
EPOCH = Table(
    "llm_epoch",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
)

# Every routing.yaml that a fleet (its lanes' namespace) has had; the highest number is in force. Only workers and
# operators write here, for it says where calls go with the providers' keys. `around`: see routing_load's Source.
ROUTING_VERSIONS = Table(
    "llm_routing_versions",
    METADATA,
    Column("fleet", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("around", LargeBinary, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

# Which version each worker has, when it last said so, and what is wrong with the file that it has refused.
ROUTING_WORKERS = Table(
    "llm_routing_workers",
    METADATA,
    Column("fleet", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("refused", Text),
    Column("seen_at", UtcTime, nullable=False),
)
