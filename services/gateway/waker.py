"""Owns waking services at rest that requests are led around: without a request for it, a service never starts."""

from __future__ import annotations

import asyncio
from contextvars import Context

from services.gateway.dispatcher import Dispatcher, ReplicaLost
from services.gateway.logs import Log
from shared.errors import ServiceError


class Waker:
    """Knocks once a service at a time. `patience_s` is how long a knock waits for the service to start."""

    def __init__(self, dispatcher: Dispatcher, log: Log, *, patience_s: float) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._patience_s = patience_s
        self._knocks: dict[str, asyncio.Task[None]] = {}

    def wake(self, service: str) -> None:
        """Have the service started, if nobody has done so yet."""
        if service not in self._knocks:
            # In no request's context: the knock outlives the request.
            task = asyncio.get_running_loop().create_task(self._knock(service), context=Context())
            self._knocks[service] = task
            task.add_done_callback(lambda _: self._knocks.pop(service, None))

    async def close(self) -> None:
        tasks = list(self._knocks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _knock(self, service: str) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._dispatcher.ping(service)
        except (TimeoutError, ReplicaLost, ServiceError) as error:
            self._log.warning("not_woken", service=service, cause=repr(error))
