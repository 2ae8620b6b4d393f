"""Owns the counting: budgets by the minute in a storage of the `limits` library, and places. Never sees HTTP.

Minutes are the clock's, alike for all gateways, and a counter has its minute in its name. Adding to a counter is atomic
in every storage, so gateways that share one admit exactly one budget together; what is given back leaves the count
exact; and when it resets is known without asking. The price of fixed minutes: a tenant may take one budget at the end
of a minute and the next one right after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from limits.aio.storage import Storage

from services.gateway.limits.claims import CONCURRENCY, UNITS, WINDOW_S, Claim, Refusal, Standing, limit_headers
from services.gateway.limits.places import Places
from services.gateway.limits.protocols import Charge

KEPT_S = 2 * WINDOW_S  # a gateway whose clock is late still finds the others' counter
PLACE_RETRY_S = 1.0  # when a place will be free is not known


class Book(Protocol):
    """What admits claims."""

    async def take(self, claim: Claim) -> Charge | Refusal:
        """All of the claim, or nothing."""
        ...

    async def look(self, claim: Claim) -> Mapping[str, str]:
        """The `x-ratelimit-*` headers of the claim's budgets, which are not touched."""
        ...

    async def close(self) -> None: ...


class Ledger:
    """Counts in one storage. Raises what that storage raises."""

    def __init__(self, counts: Storage, places: Places, *, now: Callable[[], float]) -> None:
        """`now` is in seconds since the epoch."""
        self._counts = counts
        self._places = places
        self._now = now

    async def take(self, claim: Claim) -> Charge | Refusal:
        """A count that goes over its limit is taken back: for that moment, others may be refused who would fit."""
        minute = self._minute()
        counted: list[Standing] = []
        refused: str | None = None
        for budget in claim.budgets:
            used = await self._counts.incr(_key(claim, minute, budget.kind), KEPT_S, budget.cost)
            counted.append(Standing(budget, used))
            if counted[-1].is_over:
                refused = budget.kind
                break
        if refused is None and not await self._take_place(claim):
            refused = CONCURRENCY
        if refused is None:
            return _Charge(self, claim, minute, limit_headers(counted, self._left_s(minute)))
        return self._refusal(claim, refused, minute, await self._give_back(claim, minute, counted))

    async def look(self, claim: Claim) -> Mapping[str, str]:
        minute = self._minute()
        return limit_headers(await self._give_back(claim, minute, []), self._left_s(minute))

    async def settle(self, claim: Claim, minute: int, units: float | None) -> None:
        """Free the place; correct what was taken of the units to what they came to, if its minute is still on."""
        if claim.concurrency is not None:
            await self._places.release(claim.tenant, claim.request_id)
        taken = next((budget.cost for budget in claim.budgets if budget.kind == UNITS), None)
        if taken is None or units is None or minute != self._minute():
            return
        difference = math.ceil(units) - taken
        if difference:
            await self._add(_key(claim, minute, UNITS), difference)

    async def close(self) -> None:
        await self._places.close()

    async def _take_place(self, claim: Claim) -> bool:
        if claim.concurrency is None:
            return True
        return await self._places.take(claim.tenant, claim.request_id, limit=claim.concurrency)

    async def _give_back(self, claim: Claim, minute: int, counted: list[Standing]) -> list[Standing]:
        """How every budget stands without what was counted."""
        left = [
            Standing(s.budget, await self._add(_key(claim, minute, s.budget.kind), -s.budget.cost)) for s in counted
        ]
        rest = claim.budgets[len(counted) :]
        return left + [Standing(budget, await self._counts.get(_key(claim, minute, budget.kind))) for budget in rest]

    async def _add(self, key: str, amount: int) -> int:
        """What the counter comes to. Never below zero: a storage that forgot what was taken must not grant more."""
        count = await self._counts.incr(key, KEPT_S, amount)
        return await self._counts.incr(key, KEPT_S, -count) if count < 0 else count

    def _refusal(self, claim: Claim, kind: str, minute: int, standings: list[Standing]) -> Refusal:
        left_s = self._left_s(minute)
        headers = limit_headers(standings, left_s)
        for standing in standings:
            if standing.budget.kind == kind:
                budget = standing.budget
                return Refusal(kind, budget.limit, standing.used, budget.cost, left_s, headers)
        limit = claim.concurrency or 0
        return Refusal(CONCURRENCY, limit, limit, 1, PLACE_RETRY_S, headers)

    def _minute(self) -> int:
        return int(self._now() // WINDOW_S)

    def _left_s(self, minute: int) -> float:
        return max(0.0, (minute + 1) * WINDOW_S - self._now())


@dataclass(frozen=True, slots=True)
class _Charge:
    ledger: Ledger
    claim: Claim
    minute: int
    headers: Mapping[str, str]

    async def settle(self, units: float | None) -> None:
        await self.ledger.settle(self.claim, self.minute, units)


def _key(claim: Claim, minute: int, kind: str) -> str:
    return f"{kind}/{claim.tenant}/{minute}"
