"""Owns how Redis is reached: by few connections. How long to wait for its answers is for those who ask."""

from __future__ import annotations

from typing import Any, cast

from limits.aio.storage import RedisStorage, Storage
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PREFIX = "castalia"
CONNECTIONS = 32
STORAGE_ERRORS = (RedisError, OSError, TimeoutError)


def connect(url: str) -> Redis:
    """A client that connects when it is first used. `url` is redis://, rediss:// or unix://. Raises ValueError."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 1),  # an idle connection that Redis has closed
    )
    return Redis.from_pool(pool)


def counts_in(client: Redis) -> Storage:
    """Counters on the client's own connections; the library needs no address beside them."""
    options: dict[str, Any] = {"connection_pool": cast(Any, client).connection_pool}
    return RedisStorage("async+redis://", implementation="redispy", key_prefix=PREFIX, **options)
