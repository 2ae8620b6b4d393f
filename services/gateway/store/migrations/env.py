"""Alembic's way in: with the connection that `migrate` gives, or by hand on the store of the settings."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from services.gateway.store.database import Store
from services.gateway.store.tables import metadata
from shared.config.settings import Settings


def migrate_on(connection: Connection) -> None:
    # SQLite changes a table by making another: `render_as_batch` writes revisions that do so.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_settings_store() -> None:
    store = Store.of(Settings())
    async with store.begin() as connection:
        await connection.run_sync(migrate_on)
    await store.close()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate_on(given)
else:
    asyncio.run(migrate_settings_store())
