"""Owns who may pass a narrow place first: the engine's order, in front of the engine. Never sees what passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from heapq import heappop, heappush

from services.engine.backlog import Share
from services.engine.policy import FairOrder, Ticket


class FairGate:
    """At most `places` at once; whoever has to wait goes by priority, then fair shares, then arrival.

    Every passage costs the same. For one event loop.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._order = FairOrder()
        self._waiting: list[tuple[Ticket, asyncio.Future[None]]] = []  # a heap; tickets are unique

    def waiting(self, share: Share) -> int:
        """How many of the share's tenant and priority wait to pass."""
        return self._order.waiting(tenant=share.tenant, priority=share.priority)

    @asynccontextmanager
    async def passage(self, share: Share) -> AsyncGenerator[None]:
        await self._enter(share)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, share: Share) -> None:
        if self._free:
            self._free -= 1
            return
        ticket = self._order.enter(tenant=share.tenant, weight=share.weight, priority=share.priority, cost=1.0)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (ticket, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn came just then: it goes on to the next
                self._leave()
            else:
                self._order.drop(ticket)
            raise

    def _leave(self) -> None:
        while self._waiting:
            ticket, turn = heappop(self._waiting)
            if not turn.done():
                self._order.serve(ticket)
                turn.set_result(None)
                return
        self._free += 1
