"""Owns how much waits, by model, priority and tenant. Written and read by any thread. Never sees a row."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True, slots=True)
class Share:
    """Whose a request is, and what it may claim: smaller priorities go first, tenants share by weight."""

    priority: int
    tenant: str
    weight: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one tenant has waiting in one priority, in units of cost; the weight is that of its newest request."""

    share: Share
    cost: float
    rows: int


@dataclass(slots=True)
class _Account:
    share: Share
    rows: int = 0
    cost: float = 0.0


class Backlog:
    """Counts rows in and out. Who waits for nothing has no account, so that rounding never adds up."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._models: dict[str, dict[tuple[int, str], _Account]] = {}

    def enter(self, model: str, share: Share, cost: float, *, rows: int = 1) -> None:
        """`cost` is of all the rows together."""
        with self._lock:
            accounts = self._models.setdefault(model, {})
            account = accounts.setdefault((share.priority, share.tenant), _Account(share))
            account.share = share
            account.rows += rows
            account.cost += cost

    def leave(self, model: str, share: Share, cost: float, *, rows: int = 1) -> None:
        """Take out what was entered with the same arguments."""
        with self._lock:
            accounts = self._models[model]
            account = accounts[share.priority, share.tenant]
            account.rows -= rows
            account.cost -= cost
            if not account.rows:
                del accounts[share.priority, share.tenant]
            if not accounts:
                del self._models[model]

    def of(self, model: str) -> tuple[Waiting, ...]:
        with self._lock:
            accounts = self._models.get(model, {}).values()
            return tuple(Waiting(each.share, each.cost, each.rows) for each in accounts)

    def cost(self, share: Share) -> float:
        """What the tenant has waiting in this priority, over all models."""
        with self._lock:
            held = (accounts.get((share.priority, share.tenant)) for accounts in self._models.values())
            return sum(account.cost for account in held if account is not None)

    @property
    def total(self) -> float:
        with self._lock:
            return sum(account.cost for accounts in self._models.values() for account in accounts.values())
