"""The store on SQLite, and how its URL is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiosqlite
import pytest
from pydantic import SecretStr
from sqlalchemy import event, text

from services.gateway.store.database import STORE_FAILURES, Store, StoreError, cause_of
from services.gateway.store.migrating import migrate
from services.gateway.store.tables import revisions
from shared.config.settings import Settings
from tests.store_suite import StoreSuite

SECRET = "hunter2"


class TestSqlite(StoreSuite):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store.db"


class TestInMemory(StoreSuite):
    @pytest.fixture
    def url(self) -> str:
        return "sqlite://"

    async def test_gateways_that_start_together_migrate_once(self, url: str) -> None:
        """A store in memory is one process's own."""


async def test_without_a_url_the_store_is_a_file_in_home_that_its_owner_alone_reads(tmp_path: Path) -> None:
    store = Store.of(Settings(home=tmp_path / "not yet there", database_url=None))
    await migrate(store)
    file = tmp_path / "not yet there" / "castalia.db"
    assert store.file == file
    assert file.stat().st_mode & 0o777 == 0o600
    await store.close()


async def test_a_reader_neither_waits_for_a_writer_nor_stops_one(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    await migrate(store)
    async with store.begin() as writer, store.read() as reader:
        await writer.execute(revisions.insert().values(subject="x", count=1))
        assert (await reader.execute(revisions.select())).all() == []
    async with store.read() as reader:
        assert len((await reader.execute(revisions.select())).all()) == 1
    await store.close()


async def test_closing_lets_a_transaction_end_and_then_ends_its_connection(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    await migrate(store)
    async with store.begin() as writer:
        driver = (await writer.get_raw_connection()).driver_connection
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0.02)
        assert not closing.done()
        await writer.execute(revisions.insert().values(subject="x", count=1))
    await closing
    assert isinstance(driver, aiosqlite.Connection)
    with pytest.raises(ValueError, match="no active connection"):
        await driver.execute("SELECT 1")


async def test_a_query_that_is_cancelled_leaves_no_lock(tmp_path: Path) -> None:
    store, other = (Store(f"sqlite:///{tmp_path}/store.db") for _ in range(2))
    await migrate(store)

    async def write_and_read() -> None:
        async with store.begin() as connection:
            await connection.execute(revisions.insert().values(subject="x", count=1))
            event.listen(connection.sync_connection, "before_cursor_execute", lambda *_: working.cancel())
            await connection.execute(revisions.select())

    working = asyncio.create_task(write_and_read())
    (ending,) = await asyncio.gather(working, return_exceptions=True)
    assert isinstance(ending, asyncio.CancelledError)
    async with other.begin() as connection:
        assert (await connection.execute(revisions.select())).all() == []
    await store.close()
    await other.close()


async def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    await migrate(store)

    async def fail() -> None:
        async with store.begin() as connection:
            await connection.execute(revisions.insert().values(subject="x", count=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with store.read() as connection:
        assert (await connection.execute(revisions.select())).all() == []
    await store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "not one"),
        (f"mysql://user:{SECRET}@host/name", "mysql"),
        ("sqlite:///here.db", "whole"),
    ],
)
def test_a_url_that_cannot_be_a_store_is_refused_without_being_shown(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as error:
        Store(url)
    assert SECRET not in str(error.value)


def test_postgres_urls_get_the_asynchronous_driver_and_its_name_for_tls() -> None:
    for scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        url = Store(f"{scheme}://user:{SECRET}@host/name?sslmode=require").url
        assert url.drivername == "postgresql+asyncpg"
        assert dict(url.query) == {"ssl": "require"}


async def test_a_server_that_is_not_there_is_said_without_its_password() -> None:
    store = Store(f"postgresql://user:{SECRET}@127.0.0.1:1/name")
    with pytest.raises(StoreError, match="Connect call failed") as error:
        await migrate(store)
    assert SECRET not in str(error.value)
    await store.close()


async def test_what_failed_is_said_without_the_statement_and_its_values() -> None:
    store = Store("sqlite://")
    with pytest.raises(STORE_FAILURES) as error:
        async with store.begin() as connection:
            await connection.execute(text("SELECT :value FROM nowhere"), {"value": SECRET})
    assert cause_of(error.value) == "OperationalError: no such table: nowhere"
    await store.close()


def test_settings_never_show_the_url() -> None:
    settings = Settings(database_url=SecretStr(f"postgresql://user:{SECRET}@host/name"))
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
