"""Owns bringing the store's tables up to date. Several gateways may try at once; one does it, the others wait."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from filelock import AsyncFileLock
from filelock import Timeout as LockTimeout
from sqlalchemy import Connection, text

from services.gateway.store.database import STORE_FAILURES, Store, StoreError, cause_of

FOLDER = Path(__file__).with_name("migrations")
LOCK_KEY = 0x6361_7374_616C_6961  # "castalia": what PostgreSQL's advisory lock is known by
LOCK_S = 60.0


async def migrate(store: Store) -> None:
    """Run the migrations that this store has not seen, in one transaction. Raises StoreError.

    One database at a time in a process: what Alembic runs is global to it.
    """
    try:
        if store.file is not None:
            await _migrate_file(store, store.file)
        else:
            await _upgrade(store)
    except LockTimeout:
        raise StoreError(f"another process has been preparing the store for {LOCK_S:g} seconds") from None
    except STORE_FAILURES as error:
        raise StoreError(f"the store cannot be used: {cause_of(error)}") from None


async def _migrate_file(store: Store, file: Path) -> None:
    await asyncio.to_thread(file.parent.mkdir, parents=True, exist_ok=True)
    async with AsyncFileLock(f"{file}.lock", timeout=LOCK_S):
        await asyncio.to_thread(_prepare, file)
        await _upgrade(store)


async def _upgrade(store: Store) -> None:
    async with store.begin() as connection:
        if not store.is_sqlite:  # released as the transaction ends
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        await connection.run_sync(_run)


def _run(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _prepare(file: Path) -> None:
    """A file that its owner alone may read, with a write-ahead log, so that readers and a writer never wait."""
    file.touch(mode=0o600)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
