"""Owns how many lines of batches run at once on a gateway, and whose turn it is. Never sees a batch or a line."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    tenant: str
    turn: asyncio.Future[None]


class Slots:
    """A free one goes to the waiting tenant that has the fewest; among equals, to who has waited the longest."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._taken: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []

    @property
    def free(self) -> int:
        return self._free

    async def take(self, tenant: str) -> None:
        waiter = _Waiter(tenant, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._hand_out()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self.give_back(tenant)
            raise

    def give_back(self, tenant: str) -> None:
        self._free += 1
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            waiter = min(self._waiting, key=lambda each: self._taken[each.tenant])  # the first of the least
            self._waiting.remove(waiter)
            self._free -= 1
            self._taken[waiter.tenant] += 1
            waiter.turn.set_result(None)
