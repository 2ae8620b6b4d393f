"""Owns shadow traffic: copies of calls to models whose answers nobody sees. Never slows or fails the original."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context
from dataclasses import replace

from prometheus_client import Counter

from services.gateway.carrier import Carrier, Errand, Target
from services.gateway.logs import Log
from services.gateway.problems import CallFailed
from shared.calls import Priority
from shared.errors import ServiceError
from shared.events import RowEvent
from shared.tracebacks import where

# Before a tenant's name: a share of its own where tenants compete, so that no tenant pays for copies, and nothing in
# common with other tenants' copies. No tenant's name has such a sign.
COPIES_OF = "~mirror/"
MOST = 16
LONGEST_S = 60.0


class Mirror:
    """Carries copies, at most `most` at a time; `counter`, by model and outcome, says what became of each."""

    def __init__(
        self, carrier: Carrier, counter: Counter, log: Log, *, most: int = MOST, longest_s: float = LONGEST_S
    ) -> None:
        self._carrier = carrier
        self._counter = counter
        self._log = log
        self._most = most
        self._longest_s = longest_s
        self._copies: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Copies on their way."""
        return len(self._copies)

    def send(self, target: Target) -> None:
        """Carry a copy of the call of `target` there, unless as many as may be are on their way. Returns at once."""
        if len(self._copies) >= self._most:
            self._counter.labels(target.call.model, "dropped").inc()
            return
        call = replace(
            target.call,
            tenant=COPIES_OF + target.call.tenant,
            weight=1.0,
            priority=Priority.BATCH,
            deadline_s=self._longest_s,
            traceparent=None,  # a trace of its own: nobody waits for it
        )
        errand = Errand((replace(target, call=call),), self._longest_s, None)
        # In no request's context: the copy outlives the request.
        copy = asyncio.get_running_loop().create_task(self._carry(errand), context=Context())
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)

    async def close(self) -> None:
        copies = list(self._copies)
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)

    async def _carry(self, errand: Errand) -> None:
        outcome = "failed"
        try:
            await self._carrier.carry(errand, _drop)
            outcome = "ok"
        except (CallFailed, ServiceError):
            pass  # it is counted
        except Exception as error:
            self._log.error("mirror_failed", request_id=errand.targets[0].call.request_id, cause=where(error))
        self._counter.labels(errand.targets[0].call.model, outcome).inc()


async def _drop(_: Sequence[RowEvent]) -> None:
    """Nobody sees it."""
