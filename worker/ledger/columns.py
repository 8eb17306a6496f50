"""Column types that mean the same on PostgreSQL and on SQLite, and sums of money that are exact on both."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Dialect, Numeric, String, Text, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TIMESTAMP, TypeDecorator, TypeEngine

GIGA = 10**9


class Usd(TypeDecorator[Decimal]):
    """NUMERIC(20,12). SQLite would make a float of it, so there it is text with exactly twelve decimals."""

    impl = Numeric(20, 12)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite."""
        return dialect.type_descriptor(String(34) if dialect.name == "sqlite" else Numeric(20, 12))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """To the database."""
        return f"{value:.12f}" if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, _dialect: Dialect) -> Decimal | None:
        """From the database."""
        return None if value is None else Decimal(value)


class UtcTime(TypeDecorator[datetime]):
    """The seed's TIMESTAMP, which has no zone: it is UTC in the database, and has its zone in Python."""

    impl = TIMESTAMP(timezone=False)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """To the database."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else value.replace(tzinfo=UTC)


class Names(TypeDecorator[tuple[str, ...]]):
    """A list of names as JSON text; an empty one is '[]'."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, _dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, _dialect: Dialect) -> tuple[str, ...]:
        """From the database."""
        return tuple(json.loads(value)) if value else ()


class as_pico(FunctionElement[int]):  # noqa: N801 - it is written as a function in statements
    """Whole pico-dollars of a Usd column."""

    type = BigInteger()
    inherit_cache = True


@compiles(as_pico, "sqlite")
def _sqlite_pico(element: as_pico, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(REPLACE({compiler.process(element.clauses, **options)}, '.', '') AS INTEGER)"


@compiles(as_pico, "postgresql")
def _postgresql_pico(element: as_pico, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(({compiler.process(element.clauses, **options)}) * 1000000000000 AS BIGINT)"


def exact_sum(pico: ColumnElement[int]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """A sum in two halves, above and below 10^9: SQLite refuses to sum past 64 bits. `joined` puts them together."""
    return func.coalesce(func.sum(pico // GIGA), 0), func.coalesce(func.sum(pico % GIGA), 0)


def joined(high: Any, low: Any) -> int:
    """The sum that `exact_sum` has cut in two."""
    return int(high) * GIGA + int(low)
