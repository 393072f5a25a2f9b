"""Runs the migrations on the connection that `Database.migrate` hands over, inside its transaction."""

from alembic import context

from modelyard.storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter a table in place
)
with context.begin_transaction():
    context.run_migrations()
