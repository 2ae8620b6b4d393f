"""A store that fails, and is mended: a table is away for a while."""

from __future__ import annotations

from services.gateway.store.database import Store


async def take_away(store: Store, table: str) -> None:
    async with store.begin() as connection:
        await connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO away")


async def bring_back(store: Store, table: str) -> None:
    async with store.begin() as connection:
        await connection.exec_driver_sql(f"ALTER TABLE away RENAME TO {table}")
