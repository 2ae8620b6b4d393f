"""Owns files: their rows in the store and their bytes among the blobs. Every tenant sees its own alone.

A row comes after its bytes and goes before them: a row always has its bytes, and what a crash leaves is bytes that
nobody can see, and that a later sweep removes.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, and_, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.gateway.blobs import Blobs, BlobWriter
from services.gateway.store.database import STORE_FAILURES, Store, unbroken
from services.gateway.store.tables import batches, files
from services.gateway.store.upserts import insert_into
from shared.errors import Conflict, InvalidRequest, NotFound, RequestTooLarge
from shared.schemas.batches import BatchStatus
from shared.schemas.files import DAY_S, FileObject, FileQuery, Purpose

FILE_ID = re.compile(r"file-[0-9a-f]{32}")
MOST_LISTED = 1000  # on a page, whatever is asked for
PORTION = 500  # rows of one step of a sweep
UNFINISHED: tuple[BatchStatus, ...] = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass(frozen=True, slots=True)
class File:
    """A row of the table. Times are seconds since the epoch."""

    id: str
    tenant: str
    filename: str
    purpose: Purpose
    bytes: int
    sha256: str
    created_at: float
    expires_at: float | None

    def shown(self) -> FileObject:
        return FileObject(
            id=self.id,
            bytes=self.bytes,
            created_at=int(self.created_at),
            expires_at=None if self.expires_at is None else int(self.expires_at),
            filename=self.filename,
            purpose=self.purpose,
        )


class Files:
    """All files. Raises `STORE_FAILURES` where the store or the blobs' storage is down."""

    def __init__(self, store: Store, blobs: Blobs, *, now: Callable[[], float], most_bytes: int = 2**63) -> None:
        """`most_bytes` is what a tenant may have in all its files, above which it uploads no more."""
        self._store = store
        self._most_bytes = most_bytes
        self.now = now  # seconds since the epoch
        self.blobs = blobs

    @asynccontextmanager
    async def receiving(self) -> AsyncGenerator[tuple[str, BlobWriter]]:
        """The id of a new file, and where its bytes go. They are kept if the block ends well; its row is for `add`."""
        file_id = new_file_id()
        async with self.blobs.writing(file_id) as writer:
            yield file_id, writer

    async def check_room(self, tenant: str) -> None:
        """Raises RequestTooLarge for a tenant that may upload nothing more."""
        async with self._store.read() as connection:
            await self._check_room(connection, tenant, 1)

    async def add(self, file: File) -> None:
        """Raises RequestTooLarge if the tenant has no room for it. A file that is not added loses its bytes."""
        await unbroken(self._add(file))

    async def _add(self, file: File) -> None:
        try:
            async with self._store.begin() as connection:
                await self._check_room(connection, file.tenant, file.bytes)
                await add_files(connection, [file])
        except Exception:
            with suppress(*STORE_FAILURES):  # then `sweep` removes them in time
                if not await self._with_rows([file.id]):
                    await self.blobs.remove(file.id)
            raise

    async def _check_room(self, connection: AsyncConnection, tenant: str, added: int) -> None:
        used = await connection.scalar(select(func.sum(files.c.bytes)).where(files.c.tenant == tenant)) or 0
        if used + added > self._most_bytes:
            message = (
                f"Tenant '{tenant}' may have {self._most_bytes} bytes in files, and has {used}: delete some first."
            )
            raise RequestTooLarge(message, code="storage_exhausted")

    async def _with_rows(self, ids: Sequence[str]) -> set[str]:
        async with self._store.read() as connection:
            return set((await connection.scalars(select(files.c.id).where(files.c.id.in_(ids)))).all())

    async def find(self, tenant: str, file_id: str) -> File:
        """Raises NotFound, for another's file as well."""
        query = select(files).where(files.c.id == file_id, files.c.tenant == tenant, self._is_kept())
        async with self._store.read() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise NotFound("There is no such file.", param="file_id")
        return File(**row)

    async def page(self, tenant: str, query: FileQuery) -> tuple[Sequence[File], bool]:
        """A page of the tenant's files, and whether more follow. Raises InvalidRequest for an unknown `after`."""
        chosen = select(files).where(files.c.tenant == tenant, self._is_kept())
        if query.purpose is not None:
            chosen = chosen.where(files.c.purpose == query.purpose)
        async with self._store.read() as connection:
            rows, has_more = await page_of(
                connection,
                chosen,
                limit=min(query.limit, MOST_LISTED),
                after=query.after,
                newest_first=query.order == "desc",
            )
        return [File(**row) for row in rows], has_more

    async def remove(self, tenant: str, file_id: str) -> None:
        """Raises NotFound, and Conflict while a batch still reads it."""
        async with self._store.begin() as connection:
            await lock_file(connection, tenant, file_id)
            if await connection.scalar(select(_is_in_use(file_id))):
                raise Conflict("A batch that has not ended reads this file: cancel the batch first.", param="file_id")
            await connection.execute(delete(files).where(files.c.id == file_id))
        await self.blobs.remove(file_id)

    async def sweep(self) -> None:
        """Remove the files whose time is over, unless a batch still reads them, and what has lost its writer or row."""
        is_over = and_(files.c.expires_at <= self.now(), ~_is_in_use(files.c.id))
        last = ""
        while True:
            portion = select(files.c.tenant, files.c.id).where(is_over, files.c.id > last).order_by(files.c.id)
            async with self._store.read() as connection:
                expired = (await connection.execute(portion.limit(PORTION))).all()
            for tenant, file_id in expired:
                with suppress(NotFound, Conflict):  # another gateway was first, or a batch was
                    await self.remove(tenant, file_id)
            if len(expired) < PORTION:
                break
            last = expired[-1].id
        await self.blobs.remove_partial(older_than_s=DAY_S)
        await self._remove_orphans()

    async def _remove_orphans(self) -> None:
        """Bytes whose row never came, or went before them. Whatever else is kept beside them stays."""
        names = [name for name in await self.blobs.names() if FILE_ID.fullmatch(name)]
        for start in range(0, len(names), PORTION):
            portion = names[start : start + PORTION]
            known = await self._with_rows(portion)
            for name in portion:
                if name not in known:
                    await self.blobs.remove_if_old(name, older_than_s=DAY_S)

    def _is_kept(self) -> Any:
        return or_(files.c.expires_at.is_(None), files.c.expires_at > self.now())


def new_file_id() -> str:
    return f"file-{secrets.token_hex(16)}"


async def add_files(connection: AsyncConnection, added: Sequence[File]) -> None:
    """In the caller's transaction; a file that is there already stays as it is."""
    for file in added:
        await connection.execute(insert_into(connection, files).values(**asdict(file)).on_conflict_do_nothing())


async def lock_file(connection: AsyncConnection, tenant: str, file_id: str) -> None:
    """Keep others from removing the file, or from beginning a batch on it, until the transaction ends.

    Raises NotFound. An update that changes nothing locks a row on every kind of store.
    """
    touched = update(files).where(files.c.id == file_id, files.c.tenant == tenant).values(bytes=files.c.bytes)
    if not (await connection.execute(touched)).rowcount:
        raise NotFound("There is no such file.", param="file_id")


async def page_of(
    connection: AsyncConnection, chosen: Select[Any], *, limit: int, after: str | None, newest_first: bool
) -> tuple[Sequence[Mapping[str, Any]], bool]:
    """A page of rows that have `created_at` and `id`, and whether more follow. Raises InvalidRequest for `after`."""
    created_at, row_id = chosen.selected_columns["created_at"], chosen.selected_columns["id"]
    if after is not None:
        last = (await connection.execute(chosen.where(row_id == after))).mappings().one_or_none()
        if last is None:
            raise InvalidRequest("There is nothing of this id in the list.", param="after")
        at, name = last["created_at"], last["id"]
        if newest_first:
            chosen = chosen.where(or_(created_at < at, and_(created_at == at, row_id < name)))
        else:
            chosen = chosen.where(or_(created_at > at, and_(created_at == at, row_id > name)))
    order = (created_at.desc(), row_id.desc()) if newest_first else (created_at, row_id)
    rows = (await connection.execute(chosen.order_by(*order).limit(limit + 1))).mappings().all()
    return [dict(row) for row in rows[:limit]], len(rows) > limit


def _is_in_use(file_id: Any) -> Any:
    return exists().where(batches.c.input_file_id == file_id, batches.c.status.in_(UNFINISHED))
