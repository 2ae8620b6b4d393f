"""`python -m loadtests.overload --fairness`: what one tenant's flood does to another.

Tenant B sends one request at a time, beside tenant A. B's fair share is what B gets beside an A that keeps exactly as
many requests in flight as the batches have places: continuously backlogged, so that B is due half of the work, but with
nothing piled up. The flood is an A that has 500 requests in flight at once. Two gateways; one replica, then two.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.client import nearest_rank
from loadtests.open_loop import Reply
from loadtests.saturated import ROWS, Goal, Send, Tell, fleet_of, plain, sender
from services.gateway.auth import new_key

FLOOD = 500
GATEWAYS = 2
ROUNDS = 2
SETTLE_S = 2.0  # until the flood has arrived


class NotAnswered(Exception):
    """One of B's requests failed: there is nothing to compare."""


def measure(*, quick: bool, tell: Tell) -> tuple[list[Goal], Any]:
    """The goals, and the figures behind them."""
    found: list[Shares] = []
    made = [new_key(tenant) for tenant in ("a", "b")]
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("".join(f"{line}\n" for _, line in made))
        keys.flush()
        for replicas in (1, 2):
            settings = {"gateway_replicas": GATEWAYS, "api_keys_file": Path(keys.name)}
            with fleet_of(name="fairness", replicas=replicas, **settings) as fleet:
                asks, rounds = (12, 1) if quick else (20, ROUNDS)
                keys_of = [key for key, _ in made]
                figures = fairness(fleet.url, keys_of, replicas, asks=asks, rounds=rounds, tell=tell)
                found.append(asyncio.run(figures))
    return fairness_goals(found), [plain(shares) for shares in found]


@dataclass(slots=True)
class Shares:
    """What B waited for its answers, in seconds, in each company; and what became of A's flood."""

    replicas: int
    alone: list[float] = field(default_factory=list[float])
    fair: list[float] = field(default_factory=list[float])
    flooded: list[float] = field(default_factory=list[float])
    flood: Counter[int] = field(default_factory=Counter[int])

    @property
    def ratio(self) -> float:
        return nearest_rank(self.flooded, 0.95) / nearest_rank(self.fair, 0.95)


async def fairness(url: str, keys: Sequence[str], replicas: int, *, asks: int, rounds: int, tell: Tell) -> Shares:
    """B's requests in each company, in turn, round after round: a machine that slows down slows all of them."""
    shares = Shares(replicas)
    a = sender(url, seed=1, key=keys[0], deadline_s=None)
    b = sender(url, seed=2, key=keys[1], deadline_s=None)
    await asyncio.gather(*(a() for _ in range(2 * ROWS * replicas)))
    for number in range(1, rounds + 1):
        shares.alone += await _one_by_one(b, asks)
        backlog = [asyncio.ensure_future(_forever(a)) for _ in range(ROWS * replicas)]
        shares.fair += await _one_by_one(b, asks)
        await _cancel(backlog)
        flood = [asyncio.ensure_future(a()) for _ in range(FLOOD)]
        still = FLOOD
        await asyncio.sleep(SETTLE_S)
        for _ in range(asks):
            if (still := _unanswered(flood)) <= ROWS * replicas:
                break  # nothing of it waits any more
            shares.flooded += await _one_by_one(b, 1)
        shares.flood.update(reply.status for reply in await asyncio.gather(*flood))
        medians = ", ".join(f"{median(each):.2f}" for each in (shares.alone, shares.fair, shares.flooded))
        tell(f"{replicas} replica(s), round {number}: B's medians {medians} s; A's flood had {still} left")
    return shares


async def _one_by_one(send: Send, asks: int) -> list[float]:
    replies = [await send() for _ in range(asks)]
    if failed := [reply for reply in replies if reply.status != 200]:
        raise NotAnswered(f"{len(failed)} of B's {asks} requests failed: {failed[0]}")
    return [reply.seconds for reply in replies]


def _unanswered(flood: Sequence[asyncio.Future[Reply]]) -> int:
    return sum(not task.done() for task in flood)


async def _forever(send: Send) -> None:
    while True:
        await send()


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def fairness_goals(found: Sequence[Shares]) -> list[Goal]:
    goals: list[Goal] = []
    for shares in found:
        name = f"{shares.replicas} replica(s), {GATEWAYS} gateways"
        met, answered = len(shares.flooded) / len(shares.fair), shares.flood[200] / shares.flood.total()
        lost = shares.flood.total() - sum(shares.flood[status] for status in (200, 429, 503))
        goals += [
            Goal(f"{name}: B's p95 beside the flood / at its fair share", shares.ratio, 1.5, is_least=False),
            Goal(f"{name}: of B's requests, met the flood", met, 0.9, is_least=True),
            Goal(f"{name}: of the flood, answered", answered, 0.5, is_least=True),
            Goal(f"{name}: of the flood, neither answered nor refused", lost, 0, is_least=False),
        ]
    return goals
