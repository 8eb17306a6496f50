"""The versions of routing.yaml that a fleet has had, in order, and which of them its workers have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from worker.ledger.records import RoutingVersion, RoutingWorker
from worker.ledger.tables import ROUTING_VERSIONS as VERSIONS
from worker.ledger.tables import ROUTING_WORKERS as WORKERS

_INSERT: Mapping[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_ABOUT = (VERSIONS.c.number, VERSIONS.c.version, VERSIONS.c.published_by, VERSIONS.c.created_at)


def in_force(fleet: str) -> Callable[[Connection], RoutingVersion | None]:
    """The version in force; None where nothing was ever published."""
    statement = select(*_ABOUT).where(VERSIONS.c.fleet == fleet).order_by(VERSIONS.c.number.desc()).limit(1)

    def read(connection: Connection) -> RoutingVersion | None:
        found = connection.execute(statement).first()
        return RoutingVersion(*found) if found else None

    return read


def content(fleet: str, version: str) -> Callable[[Connection], tuple[bytes, bytes] | None]:
    """The bytes of a version, and those of the packaged file around it; None for one that is not known."""
    statement = select(VERSIONS.c.content, VERSIONS.c.around).where(
        VERSIONS.c.fleet == fleet, VERSIONS.c.version == version
    )

    def read(connection: Connection) -> tuple[bytes, bytes] | None:
        found = connection.execute(statement.limit(1)).first()
        return (bytes(found[0]), bytes(found[1])) if found else None

    return read


def is_known(fleet: str, version: str) -> Callable[[Connection], bool]:
    """Whether the fleet has ever had this version."""
    statement = select(VERSIONS.c.number).where(VERSIONS.c.fleet == fleet, VERSIONS.c.version == version)
    return lambda connection: connection.execute(statement.limit(1)).first() is not None


def publish(fleet: str, about: RoutingVersion, bytes_of: tuple[bytes, bytes]) -> Callable[[Connection], bool]:
    """Put it into force, unless its number is another version's already; whether it has the number now."""
    row = {**vars(about), "fleet": fleet, "content": bytes_of[0], "around": bytes_of[1]}
    mine = select(VERSIONS.c.version).where(VERSIONS.c.fleet == fleet, VERSIONS.c.number == about.number)

    def write(connection: Connection) -> bool:
        adding = _INSERT[connection.dialect.name](VERSIONS).values(row)
        connection.execute(adding.on_conflict_do_nothing())
        return bool(connection.execute(mine).scalar_one() == about.version)

    return write


def seen(fleet: str, worker: RoutingWorker) -> Callable[[Connection], None]:
    """A worker says which version it has."""
    said = vars(worker)

    def write(connection: Connection) -> None:
        adding = _INSERT[connection.dialect.name](WORKERS).values(said | {"fleet": fleet})
        connection.execute(adding.on_conflict_do_update(index_elements=["fleet", "worker"], set_=said))

    return write


def left(fleet: str, worker: str, *, before: datetime) -> Callable[[Connection], None]:
    """A worker ends; those that have not been heard of since then are forgotten too."""
    gone = (WORKERS.c.worker == worker) | (WORKERS.c.seen_at < before)

    def write(connection: Connection) -> None:
        connection.execute(delete(WORKERS).where(WORKERS.c.fleet == fleet, gone))

    return write


def workers(fleet: str, *, since: datetime) -> Callable[[Connection], list[RoutingWorker]]:
    """The workers that were heard of since then, by name."""
    columns = (WORKERS.c.worker, WORKERS.c.version, WORKERS.c.refused, WORKERS.c.seen_at)
    statement = select(*columns).where(WORKERS.c.fleet == fleet, WORKERS.c.seen_at >= since)
    ordered = statement.order_by(WORKERS.c.worker)
    return lambda connection: [RoutingWorker(*row) for row in connection.execute(ordered)]
