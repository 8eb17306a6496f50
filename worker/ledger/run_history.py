"""What a run and those below it have had so far, for counts that Redis has lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, func, or_, select

from worker.ledger.tables import ATTEMPTS, IN_RUN, JOBS, RUNS

MOST_RUNS = 1_000
MOST_LEVELS = 16
MOST_UNDER_WAY = 1_000
MOST_MESSAGES = 500
MOST_MESSAGE_BYTES = 32_768  # as it is kept, compressed
NAMES_A_STATEMENT = 500
_BEGAN = or_(JOBS.c.status.in_(("succeeded", "failed")), exists().where(ATTEMPTS.c.job_id == JOBS.c.job_id))


@dataclass(frozen=True)
class RunHistory:
    """Jobs that have begun. `under_way`: the ids of those that have not ended; `messages`: the newest, oldest first."""

    calls: int = 0
    began: datetime | None = None
    under_way: tuple[str, ...] = ()
    messages: tuple[bytes, ...] = ()


def history(
    tenant: str, run_id: str, *, since: datetime, with_messages: bool
) -> Callable[[Connection], RunHistory]:
    """A run's history; none where its last job is of before `since`: such a run begins anew.

    A job that was refused before any call is not in it, nor is a message over MOST_MESSAGE_BYTES.
    """

    def read(connection: Connection) -> RunHistory:
        calls, firsts, lasts = 0, [], []
        under_way: list[str] = []
        messages: list[tuple[datetime, bytes]] = []
        for names in _chunks(_below(connection, tenant, run_id)):
            of_run = (IN_RUN, JOBS.c.tenant == tenant, JOBS.c.run_id.in_(names), _BEGAN)
            times = (func.min(JOBS.c.created_at), func.max(JOBS.c.created_at))
            found = connection.execute(select(func.count(), *times).where(*of_run)).one()
            if not found[0]:
                continue
            calls += int(found[0])
            firsts.append(found[1])
            lasts.append(found[2])
            under_way += _under_way(connection, of_run)
            messages += _messages(connection, of_run) if with_messages else []
        if not lasts or max(lasts) < since:
            return RunHistory()
        newest = sorted(messages)[-MOST_MESSAGES:]
        return RunHistory(
            calls, min(firsts), tuple(under_way[:MOST_UNDER_WAY]), tuple(text for _at, text in newest)
        )

    return read


def _under_way(connection: Connection, of_run: Sequence[Any]) -> list[str]:
    statement = select(JOBS.c.job_id).where(*of_run, JOBS.c.finished_at.is_(None)).limit(MOST_UNDER_WAY)
    return [str(job_id) for (job_id,) in connection.execute(statement)]


def _messages(connection: Connection, of_run: Sequence[Any]) -> list[tuple[datetime, bytes]]:
    statement = (
        select(JOBS.c.created_at, JOBS.c.message)
        .where(*of_run, JOBS.c.message.is_not(None), func.length(JOBS.c.message) <= MOST_MESSAGE_BYTES)
        .order_by(JOBS.c.created_at.desc())
        .limit(MOST_MESSAGES)
    )
    return [(at, bytes(message)) for at, message in connection.execute(statement)]


def _below(connection: Connection, tenant: str, run_id: str) -> list[str]:
    """The run and those below it, level by level; a circle ends where it began."""
    found, level = [run_id], [run_id]
    for _ in range(MOST_LEVELS):
        children: list[str] = []
        for names in _chunks(level):
            of_level = (RUNS.c.tenant == tenant, RUNS.c.parent_run_id.in_(names))
            children += connection.execute(select(RUNS.c.run_id).where(*of_level).limit(MOST_RUNS)).scalars()
        level = [name for name in dict.fromkeys(children) if name not in set(found)]
        if not level or len(found) >= MOST_RUNS:
            break
        found += level
    return found[:MOST_RUNS]


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), NAMES_A_STATEMENT):
        yield names[at : at + NAMES_A_STATEMENT]
