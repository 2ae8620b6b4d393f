"""Owns the one ordering of waiting rows. Pure: never sees a row, a clock or a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Ticket(NamedTuple):
    """A place in the order: smaller tickets go first. `arrival` is unique, so no two tickets are equal."""

    priority: int
    finish: float
    arrival: int
    start: float
    tenant: str


@dataclass(slots=True)
class _Account:
    """One tenant's waiting rows of one priority; `finish` is the tag of the last of them."""

    finish: float
    waiting: int


@dataclass(slots=True)
class _Class:
    """One priority: its virtual time, and the accounts of the tenants that wait in it."""

    now: float
    accounts: dict[str, _Account]


class FairOrder:
    """Strict priority (smaller first), then fair shares of cost between tenants, then arrival.

    Within a priority this is self-clocked fair queuing (Golestani, INFOCOM '94): the row k of a tenant gets
    F_k = max(F_{k-1}, v) + cost / weight, and the virtual time v is the largest F that was served. So a backlogged
    tenant's share of the cost served is its weight over the weights of all who wait, within one row of each. A tenant
    that waits for nothing has no account: idle time earns no credit, and nothing is kept of it.
    """

    def __init__(self) -> None:
        self._classes: dict[int, _Class] = {}
        self._arrivals = 0

    @property
    def accounts(self) -> int:
        """How many (priority, tenant) accounts are held; 0 when nothing waits."""
        return sum(len(each.accounts) for each in self._classes.values())

    def waiting(self, *, tenant: str, priority: int) -> int:
        """How many rows of the tenant wait in this priority."""
        level = self._classes.get(priority)
        account = None if level is None else level.accounts.get(tenant)
        return 0 if account is None else account.waiting

    def enter(self, *, tenant: str, weight: float, priority: int, cost: float) -> Ticket:
        """The place of a new row. `cost` is in the model's unit and at least 0, `weight` is over 0, both are finite."""
        level = self._classes.setdefault(priority, _Class(0.0, {}))
        account = level.accounts.setdefault(tenant, _Account(level.now, 0))
        start = max(account.finish, level.now)
        account.finish = start + cost / weight
        account.waiting += 1
        self._arrivals += 1
        return Ticket(priority, account.finish, self._arrivals, start, tenant)

    def serve(self, ticket: Ticket) -> None:
        """The row of this ticket starts to run: virtual time moves up to it."""
        level = self._classes[ticket.priority]
        level.now = max(level.now, ticket.finish)
        self._leave(level, ticket)

    def drop(self, ticket: Ticket) -> None:
        """The row leaves without having run. If it was its tenant's last, its cost is taken back."""
        level = self._classes[ticket.priority]
        account = level.accounts[ticket.tenant]
        if account.finish == ticket.finish:
            account.finish = ticket.start
        self._leave(level, ticket)

    def _leave(self, level: _Class, ticket: Ticket) -> None:
        account = level.accounts[ticket.tenant]
        account.waiting -= 1
        if account.waiting == 0:
            del level.accounts[ticket.tenant]
        if not level.accounts:
            del self._classes[ticket.priority]
