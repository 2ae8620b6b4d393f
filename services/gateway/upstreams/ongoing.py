"""Owns how many requests are open at one server, and who may open another. Never sees a request."""

from __future__ import annotations

from collections import Counter

SHARE = 8  # times what is free: one tenant may have 8 of 9 places, two have 8 of 17 each


class Ongoing:
    """Counts the open requests by tenant.

    A tenant may have some times as many places as are free (Choudhury and Hahne, IEEE/ACM ToN 1998): who comes always
    finds some, and as those before end, gets as many as they. The last place is for a tenant that has none.
    """

    def __init__(self) -> None:
        self._of = Counter[str]()

    def enter(self, tenant: str, *, most: int) -> bool:
        """Take one of `most` places, if the tenant may have it; `leave` gives it back."""
        free, own = most - self._of.total(), self._of[tenant]
        may = free > 0 and (own == 0 or own < SHARE * (free - 1))
        if may:
            self._of[tenant] += 1
        return may

    def leave(self, tenant: str) -> None:
        self._of[tenant] -= 1
        if not self._of[tenant]:
            del self._of[tenant]
