"""Owns the figures of servers under load: clients over HTTP, every server in turn, at every width, round after round.

Servers of one model run side by side, and only one is asked at a time; what the others spend while idle is measured and
reported. Tokens are those of the answers. A server that does not stream shows its first text with its last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from loadtests.client import Window, closed_loop
from loadtests.peers.fleet import Fleet
from loadtests.peers.server import Peer
from loadtests.peers.static import Static
from loadtests.peers.transformers_serve import TransformersServe
from loadtests.peers.venv_servers import VENV_PEERS
from loadtests.peers.venvs import PeerMissing
from loadtests.workload import Mix, jobs

CLIENTS = 16  # the width of which most is promised
WIDTHS = (1, 4, CLIENTS, 32, 64)
IDLE_S = 3.0
Key = TypeVar("Key", bound=Hashable)
BESIDE = {"static": Static, "transformers": TransformersServe, **{peer.venv: peer for peer in VENV_PEERS}}
PEERS: tuple[type[Peer], ...] = (Fleet, *BESIDE.values())


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Times are seconds."""

    mix: Mix
    warm_s: float
    window_s: float
    widths: tuple[int, ...] = WIDTHS  # clients at a time
    peers: tuple[type[Peer], ...] = PEERS

    def steps(self, rounds: int) -> int:
        """How many measurements there are, and starts."""
        return len(self.peers) + rounds * sum(len(widths_of(peer, self)) for peer in self.peers)


@dataclass(slots=True)
class Served:
    """One server's figures, one a round. Times are seconds; `cpu_us` is microseconds a token by role."""

    idle_cpu_share: float = 0.0
    tokens_per_second: list[float] = field(default_factory=list)
    first_text_p50: list[float] = field(default_factory=list)
    first_text_p95: list[float] = field(default_factory=list)
    client_cpu_share: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)


# By the number of clients, then by the server's name.
Results = dict[int, dict[str, Served]]


def widths_of(peer: Peer | type[Peer], plan: LoadPlan) -> tuple[int, ...]:
    """A server of one answer at a time is asked by few: the others' answers would come minutes later, and no faster."""
    return tuple(width for width in plan.widths if width <= peer.most_clients)


def measure_servers(folder: Path, plan: LoadPlan, rounds: int, work: Path, results: Results) -> Iterator[str]:
    """Start every server, load them in turn at every width, `rounds` times, and stop them; yields what was just done.

    A peer whose environment was not made is left out, and what is yielded says so.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - a second that `--help` need not wait for

    tokenizer = AutoTokenizer.from_pretrained(folder)
    peers: list[Peer] = []
    try:
        for make in plan.peers:
            try:
                peer: Peer = make(folder, work)
            except PeerMissing as missing:
                yield str(missing)
                continue
            peers.append(peer)
            peer.start()
            asyncio.run(_warm_up(peer, tokenizer, plan.mix))
            yield f"start {peer.name}"
        idle = {peer.name: _idle_share(peer) for peer in peers}
        for number in range(rounds):
            for width in plan.widths:
                for peer in peers:
                    if width not in widths_of(peer, plan):
                        continue
                    served = results.setdefault(width, {}).setdefault(peer.name, Served(idle[peer.name]))
                    _measure(peer, tokenizer, plan, number, width, served)
                    yield f"{width} clients of {peer.name}"
    finally:
        for peer in peers:
            peer.stop()


async def _warm_up(peer: Peer, tokenizer: Any, mix: Mix) -> None:
    """One small answer: some servers build their caches on the first request."""
    await peer.send(next(jobs(tokenizer, Mix(mix.prompt, (4, 4)), seed=0)))


def _idle_share(peer: Peer) -> float:
    before = sum(peer.cpu_seconds().values())
    time.sleep(IDLE_S)
    return (sum(peer.cpu_seconds().values()) - before) / IDLE_S


@dataclass(frozen=True, slots=True)
class CpuEdge:
    """CPU seconds so far, by role, and by thread of a replica of ours."""

    roles: Mapping[str, float]
    threads: Mapping[int, float]

    @classmethod
    def of(cls, peer: Peer) -> CpuEdge:
        return cls(dict(peer.cpu_seconds()), dict(peer.thread_seconds()) if isinstance(peer, Fleet) else {})


def _measure(peer: Peer, tokenizer: Any, plan: LoadPlan, number: int, width: int, served: Served) -> None:
    edges: list[CpuEdge] = []
    window: Window = asyncio.run(
        closed_loop(
            peer.send,
            jobs(tokenizer, plan.mix, seed=number),
            clients=width,
            warm_s=plan.warm_s,
            window_s=plan.window_s,
            at_edge=lambda: edges.append(CpuEdge.of(peer)),
        )
    )
    served.tokens_per_second.append(window.tokens_per_second)
    served.first_text_p50.append(window.first_text_quantile(0.5))
    served.first_text_p95.append(window.first_text_quantile(0.95))
    served.client_cpu_share.append(window.client_cpu_share)
    for role, seconds in cpu_spent(*edges).items():
        served.cpu_us.setdefault(role, []).append(1e6 * seconds / window.tokens)


def cpu_spent(before: CpuEdge, after: CpuEdge) -> dict[str, float]:
    """CPU seconds between two edges, by role. A replica's are told apart: the engine's thread, and all around it."""
    spent = _differences(before.roles, after.roles)
    if threads := _differences(before.threads, after.threads):
        spent["engine"] = max(threads.values())
        spent["replica"] -= spent["engine"]
    return spent


def _differences(before: Mapping[Key, float], after: Mapping[Key, float]) -> dict[Key, float]:
    return {key: value - before.get(key, 0.0) for key, value in after.items()}
