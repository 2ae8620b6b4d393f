"""Owns tenants and their keys, in the store. Knows a key for the moment in which it is made; only its hash is kept."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway.api_keys import check_tenant_name, digest, make_key
from services.gateway.store.database import Store
from services.gateway.store.tables import keys, revisions, tenants
from services.gateway.store.upserts import insert_into
from services.gateway.tenants import Tenant
from shared.calls import Priority

SUBJECT = "keys"  # the row of `revisions` that every change of tenants or keys counts up
Change = Callable[[Tenant], Tenant]


class UnknownKey(Exception):
    """No key has this id."""


class EndedKey(Exception):
    """The key was revoked, or has expired."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What may be shown of a key. Times are seconds since the epoch; `expires_at` None is never."""

    id: str
    tenant: str
    created_at: float
    expires_at: float | None

    def is_live(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: `text` is shown to its owner once, and then nowhere known."""

    stored: StoredKey
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Admitted:
    """All tenants by name, and all keys by digest, at a revision: what a gateway needs to know who calls."""

    revision: int = 0
    tenants: Mapping[str, Tenant] = field(default_factory=dict[str, Tenant])
    keys: Mapping[bytes, StoredKey] = field(default_factory=dict[bytes, StoredKey])


class Directory:
    """Reads and changes tenants and keys. Gateways see a change within seconds. Raises `STORE_FAILURES`."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now

    async def revision(self) -> int:
        """A number that grows with every change; 0 before the first."""
        async with self._store.read() as connection:
            return await _revision(connection)

    async def admitted(self) -> Admitted:
        async with self._store.read() as connection:
            revision = await _revision(connection)  # first: what is read next is at least as new
            found = {row.sha256: _key(row) for row in await connection.execute(select(keys))}
            # After the keys, so that each key's tenant is among them: no tenant is ever removed.
            names = {row.name: _tenant(row) for row in await connection.execute(select(tenants))}
        return Admitted(revision, names, found)

    async def tenants(self) -> Sequence[Tenant]:
        """By name."""
        async with self._store.read() as connection:
            return [_tenant(row) for row in await connection.execute(select(tenants).order_by(tenants.c.name))]

    async def keys(self) -> Sequence[StoredKey]:
        """By tenant, then by age, oldest first."""
        order = (keys.c.tenant, keys.c.created_at, keys.c.id)
        async with self._store.read() as connection:
            return [_key(row) for row in await connection.execute(select(keys).order_by(*order))]

    async def save_tenant(self, name: str, change: Change) -> Tenant:
        """Change a tenant, or make one from the defaults. Raises ValueError for its name."""
        async with self._store.begin() as connection:
            tenant = await self._save(connection, name, change)
            await _count_up(connection)
        return tenant

    async def create_key(self, tenant: str, change: Change = lambda same: same) -> NewKey:
        """A key for a tenant, who is made or changed on the way. Raises ValueError for its name."""
        async with self._store.begin() as connection:
            await self._save(connection, tenant, change)
            made = await self._insert_key(connection, tenant)
            await _count_up(connection)
        return made

    async def revoke(self, key_id: str) -> StoredKey:
        """End a key now. Raises UnknownKey or EndedKey."""
        async with self._store.begin() as connection:
            now = self._now()
            await self._live(connection, key_id, now)
            return await self._end(connection, key_id, now)

    async def rotate(self, key_id: str, *, grace_s: float) -> tuple[NewKey, StoredKey]:
        """A new key for the same tenant; the old one ends after the grace. Raises UnknownKey or EndedKey."""
        async with self._store.begin() as connection:
            now = self._now()
            old = await self._live(connection, key_id, now)
            made = await self._insert_key(connection, old.tenant)
            ends = now + grace_s if old.expires_at is None else min(now + grace_s, old.expires_at)
            return made, await self._end(connection, key_id, ends)

    async def _save(self, connection: AsyncConnection, name: str, change: Change) -> Tenant:
        check_tenant_name(name)
        query = select(tenants).where(tenants.c.name == name).with_for_update()
        row = (await connection.execute(query)).one_or_none()
        tenant = change(Tenant(name) if row is None else _tenant(row))
        values = _values(tenant)
        insert = insert_into(connection, tenants).values(name=name, created_at=self._now(), **values)
        await connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=values))
        return tenant

    async def _insert_key(self, connection: AsyncConnection, tenant: str) -> NewKey:
        text = make_key()
        stored = StoredKey(f"key_{secrets.token_hex(8)}", tenant, self._now(), expires_at=None)
        values = {"id": stored.id, "tenant": tenant, "sha256": digest(text), "created_at": stored.created_at}
        await connection.execute(keys.insert().values(**values))
        return NewKey(stored, text)

    async def _live(self, connection: AsyncConnection, key_id: str, now: float) -> StoredKey:
        row = (await connection.execute(select(keys).where(keys.c.id == key_id).with_for_update())).one_or_none()
        if row is None:
            raise UnknownKey(key_id)
        key = _key(row)
        if not key.is_live(now):
            raise EndedKey(key_id)
        return key

    async def _end(self, connection: AsyncConnection, key_id: str, at: float) -> StoredKey:
        await connection.execute(update(keys).where(keys.c.id == key_id).values(expires_at=at))
        await _count_up(connection)
        return _key((await connection.execute(select(keys).where(keys.c.id == key_id))).one())


async def _revision(connection: AsyncConnection) -> int:
    query = select(revisions.c.count).where(revisions.c.subject == SUBJECT)
    return (await connection.execute(query)).scalar_one_or_none() or 0


async def _count_up(connection: AsyncConnection) -> None:
    insert = insert_into(connection, revisions).values(subject=SUBJECT, count=1)
    more = {"count": revisions.c.count + 1}
    await connection.execute(insert.on_conflict_do_update(index_elements=["subject"], set_=more))


def _values(tenant: Tenant) -> dict[str, Any]:
    """A tenant's columns, but for its name."""
    return {
        "weight": tenant.weight,
        "ceiling": tenant.ceiling.name.lower(),
        "models": None if tenant.models is None else sorted(tenant.models),
        "requests_per_minute": tenant.requests_per_minute,
        "units_per_minute": tenant.units_per_minute,
        "concurrency": tenant.concurrency,
        "units_per_month": tenant.units_per_month,
        "longest_s": tenant.longest_s,
        "is_operator": tenant.is_operator,
    }


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(
        name=row.name,
        weight=row.weight,
        ceiling=Priority[row.ceiling.upper()],
        models=None if row.models is None else frozenset(row.models),
        requests_per_minute=row.requests_per_minute,
        units_per_minute=row.units_per_minute,
        concurrency=row.concurrency,
        units_per_month=row.units_per_month,
        longest_s=row.longest_s,
        is_operator=row.is_operator,
    )


def _key(row: Row[Any]) -> StoredKey:
    return StoredKey(row.id, row.tenant, row.created_at, row.expires_at)
