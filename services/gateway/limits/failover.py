"""Owns what happens while Redis is down or slow: this gateway keeps its tenants' limits by itself, and tries again.

Refusing everyone would make Redis a part whose failure stops all; admitting everyone would leave models without
protection. Each gateway granting a whole budget of its own lies between, and is what it does without Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from services.gateway.limits.claims import Claim, Refusal
from services.gateway.limits.ledger import Book
from services.gateway.limits.patience import TIMEOUT_S, in_time
from services.gateway.limits.protocols import Charge
from services.gateway.limits.redis_storage import CONNECTIONS, STORAGE_ERRORS
from services.gateway.logs import Log

RETRY_S = 1.0

T = TypeVar("T")
Question = Callable[[], Coroutine[Any, Any, T]]


class Failover:
    """Asks the shared ledger while it answers in time, else this gateway's own."""

    def __init__(
        self,
        shared: Book,
        own: Book,
        log: Log,
        *,
        clock: Callable[[], float],
        on_change: Callable[[bool], None],
        timeout_s: float = TIMEOUT_S,
        retry_s: float = RETRY_S,
    ) -> None:
        """`clock` is monotonic; `on_change` learns whether the limits are shared."""
        self._shared = shared
        self._own = own
        self._log = log
        self._clock = clock
        self._on_change = on_change
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._late: set[asyncio.Task[None]] = set()
        self._is_up = True
        self._again_at = 0.0
        on_change(True)

    async def take(self, claim: Claim) -> Charge | Refusal:
        return await self._ask(lambda: self._take_shared(claim), lambda: self._own.take(claim), self._forgo)

    async def look(self, claim: Claim) -> Mapping[str, str]:
        return await self._ask(lambda: self._shared.look(claim), lambda: self._own.look(claim))

    async def close(self) -> None:
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._shared.close()
        await self._own.close()

    async def settle(self, charge: Charge, units: float | None) -> None:
        """Of a shared charge. If that fails, its place lapses, and its estimate stays taken for the minute.

        A request whose Redis is lost does not wait for that.
        """
        async with self._turns if self._is_up else nullcontext():
            if self._is_up:
                await self._settle(charge, units)
                return
        self._settle_later(charge, units)

    def _forgo(self, found: Charge | Refusal) -> None:
        """Of a request that went away as it was admitted."""
        if isinstance(found, _SharedCharge):
            self._settle_later(found.charge, 0.0)

    def _settle_later(self, charge: Charge, units: float | None) -> None:
        task = asyncio.create_task(self._settle(charge, units))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _take_shared(self, claim: Claim) -> Charge | Refusal:
        found = await self._shared.take(claim)
        return found if isinstance(found, Refusal) else _SharedCharge(found, self)

    async def _settle(self, charge: Charge, units: float | None) -> None:
        try:
            await in_time(charge.settle(units), self._timeout_s)
        except STORAGE_ERRORS as error:
            self._lose(error)

    async def _ask(self, shared: Question[T], own: Question[T], unwanted: Callable[[T], None] | None = None) -> T:
        is_scout = not self._is_up
        if self._is_time():
            async with self._turns:
                if self._is_up or is_scout:  # else it was lost meanwhile: none of those who wait waits for it again
                    try:
                        answer = await in_time(shared(), self._timeout_s, unwanted=unwanted)
                    except STORAGE_ERRORS as error:
                        self._lose(error)
                    else:
                        self._regain()
                        return answer
        return await own()

    def _is_time(self) -> bool:
        """Whether to ask Redis. While it is down, one request a while does so for all."""
        if self._is_up:
            return True
        if self._clock() < self._again_at:
            return False
        self._again_at = self._clock() + self._retry_s
        return True

    def _lose(self, error: Exception) -> None:
        self._again_at = self._clock() + self._retry_s
        if self._is_up:
            self._is_up = False
            self._on_change(False)
            self._log.error("limits_not_shared", cause=repr(error))

    def _regain(self) -> None:
        if not self._is_up:
            self._is_up = True
            self._on_change(True)
            self._log.info("limits_shared_again")


@dataclass(frozen=True, slots=True)
class _SharedCharge:
    charge: Charge
    failover: Failover

    @property
    def headers(self) -> Mapping[str, str]:
        return self.charge.headers

    async def settle(self, units: float | None) -> None:
        await self.failover.settle(self.charge, units)
