"""What every store must do: SQLite in the unit tests, PostgreSQL where there are real services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from services.gateway.store.database import Store
from services.gateway.store.directory import Directory, EndedKey, UnknownKey
from services.gateway.store.migrating import migrate
from services.gateway.store.tables import keys, metadata
from services.gateway.store.usage_rows import CHUNK, UsageRow, add_usage, read_usage, units_since
from services.gateway.tenants import Tenant
from shared.calls import Priority

NOW = 1_700_000_000.0
RICH = Tenant(
    "rich",
    weight=2.5,
    ceiling=Priority.BATCH,
    models=frozenset({"a", "org/b"}),
    requests_per_minute=1,
    units_per_minute=2**40,
    concurrency=3,
    units_per_month=2**41,
    longest_s=1.5,
    is_operator=True,
)


class Clock:
    def __init__(self) -> None:
        self.seconds = NOW

    def __call__(self) -> float:
        return self.seconds


class StoreSuite:
    """A test class gives the fixture `url`: of an empty database."""

    @pytest.fixture
    async def store(self, url: str) -> AsyncGenerator[Store]:
        store = Store(url)
        await migrate(store)
        yield store
        await store.close()

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def directory(self, store: Store, clock: Clock) -> Directory:
        return Directory(store, now=clock)

    async def test_the_migrations_make_the_tables_that_the_code_expects(self, store: Store) -> None:
        def differences(connection: Connection) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_server_default": True})
            return list(compare_metadata(context, metadata))

        async with store.begin() as connection:
            assert await connection.run_sync(differences) == []

    async def test_gateways_that_start_together_migrate_once(self, url: str) -> None:
        stores = [Store(url) for _ in range(4)]
        await asyncio.gather(*(migrate(store) for store in stores))
        async with stores[0].read() as connection:
            assert (await connection.execute(select(func.count()).select_from(keys))).scalar_one() == 0
        for store in stores:
            await store.close()

    async def test_a_key_of_no_tenant_is_refused_by_the_database(self, store: Store) -> None:
        with pytest.raises(IntegrityError):
            async with store.begin() as connection:
                await connection.execute(
                    keys.insert().values(id="k", tenant="nobody", sha256=b"x" * 32, created_at=NOW)
                )

    async def test_a_tenant_comes_back_as_it_was_saved(self, directory: Directory) -> None:
        await directory.save_tenant("rich", lambda _: RICH)
        await directory.save_tenant("plain", lambda tenant: tenant)
        assert await directory.tenants() == [Tenant("plain"), RICH]
        await directory.save_tenant("rich", lambda tenant: replace(tenant, concurrency=None))
        assert (await directory.tenants())[1] == replace(RICH, concurrency=None)

    async def test_a_key_is_kept_as_a_hash_alone_and_its_tenant_is_made(self, directory: Directory) -> None:
        made = await directory.create_key("alice")
        admitted = await directory.admitted()
        assert admitted.tenants == {"alice": Tenant("alice")}
        assert list(admitted.keys.values()) == [made.stored]
        assert made.text.startswith("sk-castalia-")
        assert made.text not in repr(admitted) + repr(made)

    async def test_every_change_is_a_new_revision(self, directory: Directory) -> None:
        revisions = [await directory.revision()]
        made = await directory.create_key("alice")
        revisions.append(await directory.revision())
        await directory.save_tenant("alice", lambda tenant: tenant)
        revisions.append(await directory.revision())
        await directory.rotate(made.stored.id, grace_s=5)
        revisions.append(await directory.revision())
        await directory.revoke(made.stored.id)
        revisions.append(await directory.revision())
        assert revisions == sorted(set(revisions))
        assert (await directory.admitted()).revision == revisions[-1]

    async def test_a_revoked_key_ends_at_once_and_cannot_be_used_again(
        self, directory: Directory, clock: Clock
    ) -> None:
        made = await directory.create_key("alice")
        clock.seconds += 5
        ended = await directory.revoke(made.stored.id)
        assert not ended.is_live(clock())
        for action in (directory.revoke(made.stored.id), directory.rotate(made.stored.id, grace_s=1)):
            with pytest.raises(EndedKey):
                await action
        with pytest.raises(UnknownKey):
            await directory.revoke("key_none")

    async def test_a_rotated_key_ends_after_its_grace_and_never_later_than_before(
        self, directory: Directory, clock: Clock
    ) -> None:
        first = await directory.create_key("alice")
        second, old = await directory.rotate(first.stored.id, grace_s=60)
        assert old.is_live(NOW + 59)
        assert not old.is_live(NOW + 60)
        assert second.stored.is_live(NOW + 1e9)
        _, again = await directory.rotate(first.stored.id, grace_s=3600)
        assert again.expires_at == NOW + 60
        assert {key.tenant for key in await directory.keys()} == {"alice"}

    async def test_two_changes_of_one_tenant_at_once_both_count(self, directory: Directory) -> None:
        await directory.save_tenant("alice", lambda tenant: tenant)
        await asyncio.gather(
            directory.save_tenant("alice", lambda tenant: replace(tenant, weight=2.0)),
            directory.save_tenant("alice", lambda tenant: replace(tenant, concurrency=7)),
        )
        assert await directory.tenants() == [replace(Tenant("alice"), weight=2.0, concurrency=7)]

    async def test_usage_of_many_gateways_adds_up(self, store: Store) -> None:
        rows = [UsageRow("alice", f"m{i}", "2026-01-31", 1, 2, 3, 4, 0.5) for i in range(3)]

        async def add(given: list[UsageRow]) -> None:
            async with store.begin() as connection:
                await add_usage(connection, given)

        await asyncio.gather(*(add(rows if i % 2 else rows[::-1]) for i in range(6)))
        async with store.read() as connection:
            found = await read_usage(connection, start="2026-01-31", end="2026-01-31")
        assert found == [UsageRow("alice", f"m{i}", "2026-01-31", 6, 12, 18, 24, 3.0) for i in range(3)]

    async def test_usage_is_found_by_tenant_model_and_days(self, store: Store) -> None:
        days = ("2026-01-31", "2026-02-01", "2026-02-28")
        rows = [UsageRow(t, m, day, units=1.0) for t in ("a", "b") for m in ("x", "y") for day in days]
        async with store.begin() as connection:
            await add_usage(connection, [*rows, rows[0]])  # the same key twice in one write
        async with store.read() as connection:
            found = await read_usage(connection, start=days[1], end=days[2], tenant="a", model="y")
            sums = await units_since(connection, "2026-02-01")
        assert [(row.tenant, row.model, row.day) for row in found] == [("a", "y", day) for day in days[1:]]
        assert sums == {"a": 4.0, "b": 4.0}

    async def test_more_usage_than_one_statement_takes_is_written(self, store: Store) -> None:
        rows = [UsageRow("t", f"m{i:04}", "2026-01-01", requests=1) for i in range(CHUNK + 1)]
        async with store.begin() as connection:
            await add_usage(connection, rows)
        async with store.read() as connection:
            assert len(await read_usage(connection, start="2026-01-01", end="2026-01-01")) == CHUNK + 1
