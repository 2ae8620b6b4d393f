"""Owns the connection to the store: SQLite on one machine, PostgreSQL where gateways share it. Never shows its URL."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakSet

import asyncpg
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from shared.config.settings import Settings

FILE = "castalia.db"  # in CASTALIA_HOME
DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
CONNECT_S = 5.0  # also the longest wait for a connection of the pool, and for SQLite's one writer
COMMAND_S = 30.0
READS_ONLY = "castalia_reads_only"
T = TypeVar("T")

# What a store that is down, slow or broken raises. asyncpg's own come from connecting; TimeoutError is an OSError.
STORE_FAILURES: tuple[type[Exception], ...] = (
    SQLAlchemyError,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)


class StoreError(Exception):
    """The store cannot be used as it is configured. The message never holds its URL, which may hold a password."""


class _Connection(sqlite3.Connection):
    """Closes its cursors with itself.

    SQLite keeps the locks of a closed connection until its last statement is gone, and the statement of a query that
    was cancelled is gone only when Python collects its garbage.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors = WeakSet[sqlite3.Cursor]()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        cursor = super().cursor(*args, **kwargs)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()
        super().close()


class Store:
    """Connects when it is first used."""

    def __init__(self, url: str | URL) -> None:
        """`url`: `sqlite:////folder/file.db`, `sqlite://` (in memory), `postgresql://user:password@host/name`.

        Raises StoreError if it is none of these.
        """
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine: AsyncEngine = create_async_engine(self.url, hide_parameters=True, **_options(self.url))
        if self.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _configure_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)

    @classmethod
    def of(cls, settings: Settings) -> Store:
        """The store of CASTALIA_DATABASE_URL; without it, a file in CASTALIA_HOME. Raises StoreError."""
        if settings.database_url is not None:
            return cls(settings.database_url.get_secret_value())
        file = settings.home.expanduser().absolute() / FILE
        return cls(URL.create("sqlite", database=str(file)))

    @property
    def file(self) -> Path | None:
        """Where SQLite keeps it; None in memory and for a server."""
        name = self.url.database if self.is_sqlite else None
        return Path(name) if name and name != ":memory:" else None

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction: committed as the block ends well, else rolled back. SQLite runs one such at a time."""
        async with self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction for reading alone: in a file, SQLite lets it wait for no writer, nor a writer for it."""
        async with self.engine.connect() as connection:
            yield await connection.execution_options(**{READS_ONLY: True})

    async def close(self) -> None:
        """End every connection once its transaction ends, CONNECT_S at most: given back later, none would end it."""
        pool = cast(AsyncAdaptedQueuePool, self.engine.pool)
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                while pool.checkedout():  # noqa: ASYNC110  the pool has no event for it
                    await asyncio.sleep(0.005)
        await self.engine.dispose()


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Let `work`, once begun, come to its end even if the caller is cancelled: nobody would know whether it counts."""
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.gather(working, return_exceptions=True)
        raise


def cause_of(error: Exception) -> str:
    """What failed, safe to log and to show: the driver's sentence, never the statement, its values or the URL."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return f"{type(error).__name__}: {error.orig}"
    if isinstance(error, SQLAlchemyError):
        return type(error).__name__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("the store's URL is not one: sqlite:////folder/file.db or postgresql://...") from None
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        raise StoreError(f"the store is SQLite or PostgreSQL; got a URL of {parsed.drivername!r}")
    if driver == DRIVERS["sqlite"]:
        name = parsed.database
        if name and name != ":memory:" and not Path(name).is_absolute():
            raise StoreError(
                "a fleet's processes run in other folders: give SQLite's file whole, sqlite:////folder/..."
            )
    elif "sslmode" in parsed.query:  # libpq's name for what asyncpg calls `ssl`
        mode = parsed.query["sslmode"]
        parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return parsed.set(drivername=driver)


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() != "sqlite":
        arguments = {"timeout": CONNECT_S, "command_timeout": COMMAND_S}
        return {"pool_timeout": CONNECT_S, "pool_pre_ping": True, "connect_args": arguments}
    # `None` keeps Python's driver from opening transactions of its own: see `_begin_sqlite`.
    arguments = {"isolation_level": None, "timeout": CONNECT_S, "factory": _Connection}
    options: dict[str, Any] = {"connect_args": arguments}
    if not url.database or url.database == ":memory:":  # each connection would be a database of its own
        options |= {"poolclass": AsyncAdaptedQueuePool, "pool_size": 1, "max_overflow": 0}
    return options | {"pool_timeout": CONNECT_S}


def _configure_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")  # with a write-ahead log: a power cut may lose the last second
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads before it writes cannot wait for the lock later."""
    reads_only = connection.get_execution_options().get(READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
