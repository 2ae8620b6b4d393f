"""Owns how many requests of a tenant are in progress at once: here, or in Redis for all gateways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from redis.asyncio import Redis

from services.gateway.limits.patience import in_time
from services.gateway.limits.redis_storage import PREFIX, STORAGE_ERRORS

LEASE_S = 30.0

# Scores are when a place lapses, in milliseconds of Redis' own clock. A repeated take keeps the place that it has.
_NOW = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)"
_TAKE = f"""{_NOW}
local key, member, limit, lease = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
if not redis.call('ZSCORE', key, member) and redis.call('ZCARD', key) >= limit then return 0 end
redis.call('ZADD', key, now + lease, member)
redis.call('PEXPIRE', key, lease)
return 1
"""
_RENEW = f"""{_NOW}
local key, lease = KEYS[1], tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', key, 'XX', now + lease, ARGV[i]) end
redis.call('PEXPIRE', key, lease)
"""


class Places(Protocol):
    """A tenant has so many places; a request in progress holds one."""

    async def take(self, tenant: str, request_id: str, *, limit: int) -> bool:
        """Whether there was one."""
        ...

    async def release(self, tenant: str, request_id: str) -> None:
        """Give it back. A place that is not held is no error."""
        ...

    async def close(self) -> None: ...


class OwnPlaces:
    """Of this gateway alone."""

    def __init__(self) -> None:
        self._held: dict[str, set[str]] = {}

    async def take(self, tenant: str, request_id: str, *, limit: int) -> bool:
        if len(self._held.get(tenant, ())) >= limit:
            return False
        self._held.setdefault(tenant, set()).add(request_id)
        return True

    async def release(self, tenant: str, request_id: str) -> None:
        held = self._held.get(tenant, set())
        held.discard(request_id)
        if not held:
            self._held.pop(tenant, None)

    async def close(self) -> None:
        """Nothing outlives this process."""


class SharedPlaces:
    """Of all gateways that share a Redis. A place is leased, so that those of a gateway that was killed come back."""

    def __init__(
        self,
        client: Redis,
        *,
        longest_s: float,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A place is renewed for `longest_s` at most, the longest that a request may take."""
        self._client = client
        self._longest_s = longest_s
        self._lease_s = lease_s
        self._clock = clock
        self._take = client.register_script(_TAKE)
        self._renew = client.register_script(_RENEW)
        self._held: dict[str, dict[str, float]] = {}  # by tenant and request, until when
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, tenant: str, request_id: str, *, limit: int) -> bool:
        """Cancelled, or without an answer, it may have taken a place: that one is not renewed, and lapses."""
        if not await self._take(keys=[_key(tenant)], args=[request_id, limit, self._lease_ms]):
            return False
        self._held.setdefault(tenant, {})[request_id] = self._clock() + self._longest_s
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._keep())
        return True

    async def release(self, tenant: str, request_id: str) -> None:
        held = self._held.get(tenant, {})
        held.pop(request_id, None)
        if not held:
            self._held.pop(tenant, None)
        await self._client.zrem(_key(tenant), request_id)

    async def close(self) -> None:
        """What is still held lapses. Closes the client."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._client.aclose()

    @property
    def _lease_ms(self) -> int:
        return round(self._lease_s * 1e3)

    async def _keep(self) -> None:
        """Renew what is held, until nothing is."""
        while self._held:
            await asyncio.sleep(self._lease_s / 3)
            now = self._clock()
            self._held = {
                tenant: left
                for tenant, held in self._held.items()
                if (left := {request_id: until for request_id, until in held.items() if until > now})
            }
            for tenant, held in list(self._held.items()):
                with suppress(*STORAGE_ERRORS):  # the next turn is early enough
                    await in_time(self._renew(keys=[_key(tenant)], args=[self._lease_ms, *held]))


def _key(tenant: str) -> str:
    return f"{PREFIX}:places/{tenant}"
