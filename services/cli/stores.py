"""Owns how commands reach the store: brought up to date, used once, closed; its failures become a line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from services.cli.context import CliError, settings

if TYPE_CHECKING:
    from services.gateway.store.database import Store

ResultT = TypeVar("ResultT")


def with_store(action: Callable[[Store], Awaitable[ResultT]]) -> ResultT:
    """What the action makes of the store of CASTALIA_DATABASE_URL, or of CASTALIA_HOME. Raises CliError."""
    from services.gateway.store.database import STORE_FAILURES, Store, StoreError, cause_of
    from services.gateway.store.migrating import migrate

    async def run() -> ResultT:
        store = Store.of(settings())
        try:
            await migrate(store)
            return await action(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreError as error:
        raise CliError(str(error)) from None
    except STORE_FAILURES as error:
        raise CliError(f"the store cannot be used: {cause_of(error)}") from None


def upgrade() -> None:
    """Bring the store's tables up to date. Gateways do so as they start: this shows beforehand that it works."""
    with_store(_nothing)


async def _nothing(_: Store) -> None:
    pass
