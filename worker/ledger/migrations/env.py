"""What Alembic runs for every command: the revisions, on the connection and in the transaction that we hand it."""

from alembic import context

from worker.ledger.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
