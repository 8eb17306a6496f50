"""Forgets what jobs said: requests and answers whose retention is over. Rows, costs and errors stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from producer_sdk.contract import Finding
from worker.ledger.tables import IS_KEPT, JOBS

JOBS_A_PAGE = 500
CONTENT = ("text", "tool_calls", "data", "citations", "vectors")
# Who gets this result again, by an idempotency key, is told why it is empty.
FORGOTTEN = Finding(
    rule="retention", where="result", action="redacted", detail="the answer is no longer kept"
).model_dump()
_FORGET = (
    update(JOBS)
    .where(JOBS.c.job_id == bindparam("this_id"))
    .values(message=None, result=bindparam("new_result"), purged_at=bindparam("new_purged_at"))
)


def purge_page(*, finished_before: datetime, now: datetime) -> Callable[[Connection], int]:
    """Forget a page of them, the oldest first; how many."""
    due = (
        select(JOBS.c.job_id, JOBS.c.result)
        .where(IS_KEPT, JOBS.c.finished_at < finished_before)
        .order_by(JOBS.c.finished_at)
        .limit(JOBS_A_PAGE)
        .with_for_update(skip_locked=True)
    )

    def purge(connection: Connection) -> int:
        rows = [
            {"this_id": job_id, "new_result": _without_content(result), "new_purged_at": now}
            for job_id, result in connection.execute(due)
        ]
        if rows:
            connection.execute(_FORGET, rows)
        return len(rows)

    return purge


def _without_content(result: str) -> str:
    fields = json.loads(result)
    kept = {name: value for name, value in fields.items() if name not in CONTENT}
    return json.dumps({**kept, "safety": [*fields.get("safety", []), FORGOTTEN]})
