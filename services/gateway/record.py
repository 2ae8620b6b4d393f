"""Owns what the gateway remembers of one HTTP request for its log line and metrics. Never a prompt, key or body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Scope

from services.gateway.limits import Charge
from services.gateway.tenants import ANYONE, Tenant
from shared.tracing import NO_SPAN, Span

_KEY = "castalia.record"
_CALLER = "castalia.caller"
CLIENT_CLOSED = 499  # the client went away: in the log and in metrics alone
_RAN = frozenset({0, CLIENT_CLOSED, 500, 504})  # other failures are refusals, before any work


@dataclass(slots=True)
class Record:
    """Filled in as the request proceeds. Times are seconds on the gateway's monotonic clock."""

    request_id: str
    method: str
    path: str
    started: float
    retries: int = 0  # how often the client says that it has tried before
    tenant: Tenant = ANYONE
    model: str | None = None  # set once the model is known to exist, so that it can label a metric
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt's: those that the model had read before
    units: float = 0.0  # work of the rows that ended well, in the model's own unit
    first_chunk_s: float | None = None
    queued_s: float | None = None  # of its row that waited longest for a place in the batch
    images: int = 0  # finished ones
    cut: bool = False  # the stream failed after its first byte
    refusal: str | None = None  # the code of the error that it was answered with
    charge: Charge | None = None  # what it took of its tenant's limits
    limit_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    span: Span = NO_SPAN
    is_batch_line: bool = False  # the batch that it belongs to records its usage, and no rate limit applies

    @property
    def ended_well(self) -> bool:
        return 200 <= self.status < 300 and not self.cut

    @property
    def work(self) -> float | None:
        """Units of work that were done for it; None if it ended badly and how far it got is not known."""
        if self.ended_well:
            return self.units
        sent = max(self.units, float(self.prompt_tokens + self.completion_tokens))
        if not sent and (self.cut or self.status in _RAN):
            return None
        return sent

    async def settle(self) -> None:
        """Give back what it did not use of its tenant's limits. Only the first call does."""
        charge, self.charge = self.charge, None
        if charge is not None:
            await charge.settle(self.work)


def attach(scope: Scope, record: Record) -> None:
    scope[_KEY] = record


def record_of(scope: Scope) -> Record:
    record: Record = scope[_KEY]
    return record


def as_caller(scope: Scope, tenant: Tenant) -> None:
    """Mark a request of the gateway's own making, a line of a tenant's batch. No header can say this."""
    scope[_CALLER] = tenant


def caller_of(scope: Scope) -> Tenant | None:
    caller: Tenant | None = scope.get(_CALLER)
    return caller
