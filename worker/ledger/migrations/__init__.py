"""The tables' history: Alembic's revisions, run from inside the package, by any number of processes at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from worker.ledger.partitions import add_partitions

_LOCK = 0x6661_6972_6C61  # any number that nobody else locks in this database


def upgrade(engine: Engine, to: str = "head") -> None:
    """Bring the tables up to a revision. SQLite's BEGIN IMMEDIATE and PostgreSQL's lock let one do it at a time."""
    with engine.begin() as connection:
        _lock(connection)
        if not is_current(connection):
            command.upgrade(_config(connection), to)
        if to == "head":
            add_partitions(connection)


def downgrade(engine: Engine, to: str) -> None:
    """Take the tables back to a revision; `base` is an empty database."""
    with engine.begin() as connection:
        _lock(connection)
        command.downgrade(_config(connection), to)


def is_current(connection: Connection) -> bool:
    """Whether the tables are of this version, or of a newer one: tables are only added to."""
    script = ScriptDirectory.from_config(_config(connection))
    found = MigrationContext.configure(connection).get_current_revision()
    known = [revision.revision for revision in script.walk_revisions()]
    return found is not None and (found == known[0] or found not in known)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
