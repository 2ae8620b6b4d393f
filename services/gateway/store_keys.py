"""Owns who may call, as the store has it: tenants and keys held in memory and read again when they have changed.

No request waits for the store. A change there takes effect within `REFRESH_S` and the time of a query, on every
gateway; while the store cannot be read, what was read last holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from services.gateway.api_keys import digest_in
from services.gateway.logs import Log
from services.gateway.store.database import cause_of
from services.gateway.store.directory import Admitted, Directory
from services.gateway.tenants import ANYONE, Tenant
from shared.errors import InvalidApiKey

REFRESH_S = 2.0
READ_S = 5.0  # a store that is slower counts as one that cannot be read


class StoreKeys:
    """The keys of the store. `is_open`: until the first key is made, everyone is let in; for loopback alone."""

    def __init__(
        self,
        directory: Directory,
        log: Log,
        *,
        is_open: bool,
        now: Callable[[], float] = time.time,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self._directory = directory
        self._log = log
        self._is_open = is_open
        self._now = now
        self._refresh_s = refresh_s
        self._admitted = Admitted()
        self._task: asyncio.Task[None] | None = None
        self._is_blind = False

    def tenant_of(self, authorization: str | None) -> Tenant:
        """The tenant of an Authorization header. Raises InvalidApiKey, which never says why a key is wrong."""
        if self._is_open and not self._admitted.keys:
            return self._anyone()
        # A digest cannot be felt for byte by byte: whoever could choose one's beginning would have broken SHA-256.
        key = self._admitted.keys.get(digest_in(authorization))
        if key is None or not key.is_live(self._now()):
            raise InvalidApiKey("The API key is not valid here.")
        return self._admitted.tenants[key.tenant]

    def tenant_named(self, name: str) -> Tenant | None:
        """The tenant as it is now; None if none of its keys is live, or nobody may call without one."""
        if self._is_open and not self._admitted.keys:
            return self._anyone() if name == ANYONE.name else self._admitted.tenants.get(name)
        now = self._now()
        is_live = any(key.tenant == name and key.is_live(now) for key in self._admitted.keys.values())
        return self._admitted.tenants[name] if is_live else None

    def _anyone(self) -> Tenant:
        """Whoever calls where no key is asked for: there is nobody to hide anything from."""
        found = self._admitted.tenants.get(ANYONE.name)
        return ANYONE if found is None else replace(found, is_operator=True)

    async def start(self) -> None:
        """Raises `STORE_FAILURES`: a gateway does not start with keys that it cannot read."""
        await self._read()
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Read what has changed. A store that cannot be read leaves everything as it was."""
        try:
            async with asyncio.timeout(READ_S):
                if await self._directory.revision() != self._admitted.revision:
                    await self._read()
        except Exception as error:  # whatever it is, it must not end the following of later changes
            if not self._is_blind:
                self._log.error("api_keys_unreadable", cause=cause_of(error))
            self._is_blind = True
        else:
            self._is_blind = False

    async def _read(self) -> None:
        self._admitted = await self._directory.admitted()
        self._log.info("api_keys_read", keys=len(self._admitted.keys), tenants=len(self._admitted.tenants))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            await self.refresh()
