"""What the ledger knows of an agent run: the runs below it, their jobs, and what those cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select

from producer_sdk.contract import JobResult
from worker.ledger.columns import as_pico, exact_sum, joined
from worker.ledger.rows import read_result
from worker.ledger.tables import ATTEMPTS, EVENTS, IN_RUN, IS_IN_FLIGHT, JOBS, RUNS

MOST_RUNS = 1_000
MOST_JOBS = 2_000  # of a tree, the newest; counts and costs of a run are over all of its jobs
IDS_A_STATEMENT = 500


@dataclass(frozen=True)
class RunJob:
    """One job of a run. `held_pico`: what its calls under way may cost at most."""

    job_id: UUID
    task: str
    status: str
    code: str | None
    calls: int
    cost_pico: int
    held_pico: int
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class RunNode:
    """One run of a tree: how far below the first it is, all its jobs by status, what they cost, and its newest jobs."""

    run_id: str
    parent_run_id: str | None
    depth: int
    statuses: dict[str, int]
    calls: int
    cost_pico: int
    held_pico: int
    jobs: tuple[RunJob, ...]


@dataclass(frozen=True)
class RunReport:
    """A run and those below it, each after its parent; `is_whole`: nothing was left out."""

    nodes: tuple[RunNode, ...]
    is_whole: bool


Costs = dict[UUID, tuple[int, int, int]]  # calls, cost, held


def tree(tenant: str, run_id: str) -> Callable[[Connection], RunReport]:
    """The run and all below it."""

    def read(connection: Connection) -> RunReport:
        places, is_whole = _below(connection, tenant, run_id)
        nodes, left = [], MOST_JOBS
        for name, (parent, depth) in places.items():
            found = _jobs(connection, tenant, name)
            nodes.append(_node(connection, (name, parent, depth), found, most=left))
            left -= len(nodes[-1].jobs)
            is_whole = is_whole and len(nodes[-1].jobs) == len(found)
        return RunReport(tuple(nodes), is_whole)

    return read


def _below(
    connection: Connection, tenant: str, run_id: str
) -> tuple[dict[str, tuple[str | None, int]], bool]:
    """Each run's parent and depth, in the order of a tree; a circle ends where it began."""
    above = connection.execute(
        select(RUNS.c.parent_run_id).where(RUNS.c.tenant == tenant, RUNS.c.run_id == run_id)
    ).scalar()
    found: dict[str, tuple[str | None, int]] = {}
    waiting: list[tuple[str, str | None, int]] = [(run_id, above, 0)]
    while waiting and len(found) < MOST_RUNS:
        name, parent, depth = waiting.pop()
        if name in found:
            continue
        found[name] = (parent, depth)
        children = connection.execute(
            select(RUNS.c.run_id)
            .where(RUNS.c.tenant == tenant, RUNS.c.parent_run_id == name)
            .order_by(RUNS.c.created_at.desc(), RUNS.c.run_id.desc())
            .limit(MOST_RUNS)
        )
        waiting += [(child, name, depth + 1) for (child,) in children]
    return found, not waiting


def _jobs(connection: Connection, tenant: str, run_id: str) -> Sequence[Any]:
    columns = (JOBS.c.job_id, JOBS.c.task, JOBS.c.status, JOBS.c.created_at, JOBS.c.finished_at)
    statement = select(*columns).where(IN_RUN, JOBS.c.tenant == tenant, JOBS.c.run_id == run_id)
    return connection.execute(statement.order_by(JOBS.c.created_at, JOBS.c.job_id)).all()


def _costs(connection: Connection, job_ids: Sequence[UUID]) -> Costs:
    found: Costs = {}
    for at in range(0, len(job_ids), IDS_A_STATEMENT):
        ids = job_ids[at : at + IDS_A_STATEMENT]
        booked = (
            select(EVENTS.c.job_id, func.count(EVENTS.c.attempt), *exact_sum(as_pico(EVENTS.c.cost_usd)))
            .where(EVENTS.c.job_id.in_(ids))
            .group_by(EVENTS.c.job_id)
        )
        for job_id, calls, high, low in connection.execute(booked):
            found[job_id] = (int(calls), joined(int(high), int(low)), 0)
        held = (
            select(ATTEMPTS.c.job_id, func.count(), *exact_sum(ATTEMPTS.c.worst_pico))
            .where(ATTEMPTS.c.job_id.in_(ids), IS_IN_FLIGHT)
            .group_by(ATTEMPTS.c.job_id)
        )
        for job_id, calls, high, low in connection.execute(held):
            before, cost, _none = found.get(job_id, (0, 0, 0))
            found[job_id] = (before + int(calls), cost, joined(int(high), int(low)))
    return found


def _node(
    connection: Connection, place: tuple[str, str | None, int], found: Sequence[Any], *, most: int
) -> RunNode:
    """One run: all of its jobs counted, the newest shown."""
    costs = _costs(connection, [row.job_id for row in found])
    shown = found[max(0, len(found) - most) :]
    codes = _codes(connection, [row.job_id for row in shown if row.status not in (None, "succeeded")])
    jobs = [
        RunJob(
            row.job_id,
            row.task,
            row.status or "open",
            codes.get(row.job_id),
            *costs.get(row.job_id, (0, 0, 0)),
            created_at=row.created_at,
            finished_at=row.finished_at,
        )
        for row in shown
    ]
    calls, cost, held = (sum(each) for each in zip((0, 0, 0), *costs.values(), strict=True))
    statuses = Counter(str(row.status or "open") for row in found)
    return RunNode(*place, dict(statuses), calls, cost, held, tuple(jobs))


def _codes(connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The error codes of jobs that have no answer; what a newer version has written is not read."""
    codes: dict[UUID, str] = {}
    for at in range(0, len(job_ids), IDS_A_STATEMENT):
        ids = job_ids[at : at + IDS_A_STATEMENT]
        statement = select(JOBS.c.job_id, JOBS.c.result).where(JOBS.c.job_id.in_(ids))
        for job_id, text in connection.execute(statement):
            result = read_result(text) if text else None
            if isinstance(result, JobResult) and result.error:
                codes[job_id] = str(result.error.code)
    return codes
