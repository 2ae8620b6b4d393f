"""Owns the figures of image servers: jobs of 10, 20 and 50 steps over HTTP, each server in turn, round after round.

Three ways to serve one diffusers checkpoint: step-level batches (Castalia), request-level batches (a diffusers pipeline
behind `@serve.batch`, jobs of equal steps together), and one by one. *Saturated*: a closed loop of so many clients that
somebody always waits. *Low*: one client, so that nothing ever waits. All three in bfloat16, on one thread. What a batch
can bring at all is measured beside them: bare forwards of the model, batch by batch.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench_models import bare_forward
from loadtests.client import Window, closed_loop, nearest_rank
from loadtests.peers.image_servers import IMAGE_PEERS, ImageJob, ImagePeer

SATURATED, LOW = "saturated", "low"
CLIENTS = {SATURATED: 24, LOW: 1}
STEPS = (10, 20, 50)
SHORT = min(STEPS)
FORWARD_ROWS = (1, 4, 8, 24)
FORWARDS = 5


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Times are seconds; `low_s` and `saturated_s` are windows."""

    rounds: int
    warm_s: float
    low_s: float
    saturated_s: float


@dataclass(slots=True)
class LoadFigures:
    """One server under one load, one figure a round. Latencies are of jobs of 10 steps, in seconds."""

    steps_per_second: list[float] = field(default_factory=list)
    short_p50: list[float] = field(default_factory=list)
    short_p95: list[float] = field(default_factory=list)
    seconds_per_step: list[float] = field(default_factory=list)  # mean over all jobs: latency / steps


@dataclass(slots=True)
class ImageFigures:
    """One model: bare forwards in image-steps/s by rows of a batch, and its servers by name and load."""

    forwards: dict[int, list[float]] = field(default_factory=lambda: {rows: [] for rows in FORWARD_ROWS})
    servers: dict[str, dict[str, LoadFigures]] = field(default_factory=dict)


def image_jobs(seed: int) -> Iterator[ImageJob]:
    """An endless, repeatable sequence: half short jobs, the rest longer ones."""
    rng = random.Random(seed)
    while True:
        steps = SHORT if rng.random() < 0.5 else rng.choice(STEPS[1:])
        yield ImageJob(steps, rng.randrange(2**31))


def low_jobs() -> Iterator[ImageJob]:
    """Short and long in turn, so that every window holds the same mix."""
    for seed in range(2**31):
        yield ImageJob(STEPS[seed % len(STEPS)], seed)


def measure_images(folder: Path, plan: ImagePlan, work: Path, results: ImageFigures) -> Iterator[str]:
    """Start every server, load them in turn, and stop them; yields what has just been done."""
    forward = bare_forward(folder)
    peers: list[ImagePeer] = []
    try:
        for make in IMAGE_PEERS:
            peer: ImagePeer = make(folder, work)
            peers.append(peer)
            peer.start()
            asyncio.run(_warm_up(peer))
            results.servers.setdefault(peer.name, {load: LoadFigures() for load in CLIENTS})
            yield f"start {peer.name}"
        for number in range(plan.rounds):
            for rows, rates in results.forwards.items():
                rates.append(_forward_rate(forward, rows))
            yield "bare forwards"
            for load in CLIENTS:
                for peer in peers:
                    asyncio.run(_measure(peer, load, plan, number, results.servers[peer.name][load]))
                    yield f"{load} load, {peer.name}"
    finally:
        for peer in peers:
            peer.stop()


def _forward_rate(forward: Callable[[int], None], rows: int) -> float:
    """Image-steps a second of bare forwards: the best of some, since what else runs here only slows them."""
    forward(rows)
    seconds: list[float] = []
    for _ in range(FORWARDS):
        started = time.perf_counter()
        forward(rows)
        seconds.append(time.perf_counter() - started)
    return rows / min(seconds)


async def _warm_up(peer: ImagePeer) -> None:
    await peer.send(ImageJob(2, 0))


async def _measure(peer: ImagePeer, load: str, plan: ImagePlan, number: int, figures: LoadFigures) -> None:
    window: Window = await closed_loop(
        peer.send,
        low_jobs() if load == LOW else image_jobs(number),
        clients=CLIENTS[load],
        warm_s=plan.warm_s,
        window_s=plan.low_s if load == LOW else plan.saturated_s,
        at_edge=lambda: None,
    )
    began = [answer for answer in window.answers if answer.started >= window.started] or list(window.answers)
    short = [answer.ended - answer.started for answer in began if answer.tokens == SHORT]
    figures.steps_per_second.append(window.tokens_per_second)
    figures.short_p50.append(nearest_rank(short, 0.5))
    figures.short_p95.append(nearest_rank(short, 0.95))
    figures.seconds_per_step.append(
        sum(answer.ended - answer.started for answer in began) / sum(answer.tokens for answer in began)
    )
