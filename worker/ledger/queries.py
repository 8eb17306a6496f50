"""What people ask the ledger: who has spent what, on which model, on which day; and the rows that prove it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, case, desc, func, select

from worker.ledger.columns import GIGA, as_pico, exact_sum, joined
from worker.ledger.records import AttemptState
from worker.ledger.tables import ATTEMPTS, EVENTS, JOBS

Dimension = Literal["tenant", "feature", "task", "model", "provider", "day", "prompt_version", "run", "key"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
_COLUMNS: dict[Dimension, ColumnElement[Any]] = {
    "tenant": EVENTS.c.tenant_id,
    "feature": EVENTS.c.feature_name,
    "task": func.coalesce(EVENTS.c.task, ""),
    "model": EVENTS.c.model_id,
    "provider": func.coalesce(EVENTS.c.provider, ""),
    "day": func.date(EVENTS.c.created_at),
    "prompt_version": func.coalesce(EVENTS.c.prompt_version, ""),
    "run": func.coalesce(EVENTS.c.run_id, ""),
    "key": case((EVENTS.c.own_key, "tenant"), else_="fleet"),
}


@dataclass(frozen=True)
class UsageRow:
    """What one group has used. `group` holds a value for each dimension asked for, days as YYYY-MM-DD in UTC."""

    group: dict[str, str]
    attempts: int
    hits: int
    uncertain: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cost_pico: int
    saved_pico: int


@dataclass(frozen=True)
class UncertainRow:
    """A usage row whose cost nobody knows: it stands at the most that it can be."""

    id: UUID
    created_at: datetime
    tenant: str
    provider: str | None
    model: str
    job_id: UUID | None
    cost_pico: int


@dataclass(frozen=True)
class AttemptLine:
    """One attempt as the ledger has it, to hold against a provider's books. In flight: no tokens, no cost yet."""

    id: UUID
    tenant: str
    deployment: str
    state: AttemptState
    input_tokens: int
    output_tokens: int
    cost_pico: int


@dataclass(frozen=True)
class Totals:
    """The ledger in one look: attempts by state, jobs by status ('open': not ended), money."""

    attempts: dict[str, int]
    jobs: dict[str, int]
    hits: int
    cost_pico: int
    saved_pico: int
    over_reserved: int


@dataclass(frozen=True)
class Span:
    """Which usage rows: of one tenant, made since and before. None leaves a side open."""

    tenant: str | None = None
    since: datetime | None = None
    before: datetime | None = None

    def on(self, statement: Select[Any]) -> Select[Any]:
        """The statement with these limits on its usage rows."""
        if self.tenant is not None:
            statement = statement.where(EVENTS.c.tenant_id == self.tenant)
        if self.since is not None:
            statement = statement.where(EVENTS.c.created_at >= self.since)
        if self.before is not None:
            statement = statement.where(EVENTS.c.created_at < self.before)
        return statement


_IS_HIT = EVENTS.c.attempt.is_(None)


def usage(
    by: Sequence[Dimension], span: Span, *, limit: int | None = None
) -> Callable[[Connection], list[UsageRow]]:
    """Usage in groups of these dimensions, the dearest first, at most so many."""
    groups = [_COLUMNS[dimension] for dimension in by]
    cost = exact_sum(as_pico(EVENTS.c.cost_usd))
    statement: Select[Any] = select(
        *groups,
        func.count(),
        _count(_IS_HIT),
        _count(EVENTS.c.status == "uncertain"),
        *(
            func.coalesce(func.sum(column), 0)
            for column in (EVENTS.c.input_tokens, EVENTS.c.output_tokens, EVENTS.c.cache_read_tokens)
        ),
        *cost,
        *exact_sum(as_pico(EVENTS.c.saved_usd)),
    )
    statement = span.on(statement).group_by(*groups)
    if limit is not None:
        high, low = cost
        statement = statement.order_by(desc(high + low // GIGA), desc(low % GIGA)).limit(limit)

    def read(connection: Connection) -> list[UsageRow]:
        rows = [_usage_row(by, row) for row in connection.execute(statement)]
        return sorted(rows, key=lambda row: (-row.cost_pico, *row.group.values()))

    return read


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _usage_row(by: Sequence[Dimension], row: Any) -> UsageRow:
    names, numbers = row[: len(by)], row[len(by) :]
    count, hits, uncertain, inputs, outputs, reads, *money = (int(number) for number in numbers)
    return UsageRow(
        group=dict(zip(by, map(_shown, names), strict=True)),
        attempts=count - hits,
        hits=hits,
        uncertain=uncertain,
        input_tokens=inputs,
        output_tokens=outputs,
        cache_read_tokens=reads,
        cost_pico=joined(*money[:2]),
        saved_pico=joined(*money[2:]),
    )


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def attempt_lines(span: Span, *, limit: int) -> Callable[[Connection], list[AttemptLine]]:
    """Attempts that were sent, oldest first. Not those in flight: see `in_flight`."""
    statement = select(
        EVENTS.c.id,
        EVENTS.c.tenant_id,
        EVENTS.c.deployment,
        EVENTS.c.status,
        EVENTS.c.input_tokens,
        EVENTS.c.output_tokens,
        as_pico(EVENTS.c.cost_usd),
    )
    statement = span.on(statement).where(~_IS_HIT).order_by(EVENTS.c.id).limit(limit)
    return lambda connection: [AttemptLine(*row) for row in connection.execute(statement)]


def uncertain(*, limit: int, tenant: str | None) -> Callable[[Connection], list[UncertainRow]]:
    """The usage rows whose cost nobody knows, the oldest first."""
    columns = (EVENTS.c.id, EVENTS.c.created_at, EVENTS.c.tenant_id, EVENTS.c.provider, EVENTS.c.model_id)
    statement = (
        select(*columns, EVENTS.c.job_id, as_pico(EVENTS.c.cost_usd))
        .where(EVENTS.c.status == "uncertain")
        .order_by(EVENTS.c.id)
        .limit(limit)
    )
    if tenant is not None:
        statement = statement.where(EVENTS.c.tenant_id == tenant)
    return lambda connection: [UncertainRow(*row) for row in connection.execute(statement)]


def totals(connection: Connection) -> Totals:
    """The ledger in one look."""
    whole = usage((), Span())(connection)[0]
    over = select(func.count()).select_from(ATTEMPTS).where(ATTEMPTS.c.over_reserved)
    return Totals(
        attempts=_counts(connection, ATTEMPTS.c.state),
        jobs=_counts(connection, func.coalesce(JOBS.c.status, "open")),
        hits=whole.hits,
        cost_pico=whole.cost_pico,
        saved_pico=whole.saved_pico,
        over_reserved=connection.execute(over).scalar_one(),
    )


def _counts(connection: Connection, word: ColumnElement[Any]) -> dict[str, int]:
    return {
        str(key): int(count) for key, count in connection.execute(select(word, func.count()).group_by(word))
    }
