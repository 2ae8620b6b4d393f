"""Owns the figures of image servers: jobs of 10, 20 and 50 steps over HTTP, each server in turn, round after round.

Three ways to serve one diffusers checkpoint: step-level batches (Castalia), request-level batches (a diffusers pipeline
behind `@serve.batch`, jobs of equal steps together), and one by one. *Saturated*: a closed loop of more clients than a
batch has rows. *Low*: one client, so that nothing ever waits. All three in bfloat16, on one thread.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.client import Window, closed_loop, nearest_rank
from loadtests.peers.image_servers import IMAGE_PEERS, ImageJob, ImagePeer

SATURATED, LOW = "saturated", "low"
CLIENTS = {SATURATED: 24, LOW: 1}
STEPS = (10, 20, 50)
SHORT = min(STEPS)


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


def measure_images(
    folder: Path, plan: ImagePlan, work: Path, results: dict[str, dict[str, LoadFigures]]
) -> Iterator[str]:
    """Start every server, load them in turn, and stop them; yields what has just been done."""
    peers: list[ImagePeer] = []
    try:
        for make in IMAGE_PEERS:
            peer: ImagePeer = make(folder, work)
            peers.append(peer)
            peer.start()
            asyncio.run(_warm_up(peer))
            results.setdefault(peer.name, {load: LoadFigures() for load in CLIENTS})
            yield f"start {peer.name}"
        for number in range(plan.rounds):
            for load in CLIENTS:
                for peer in peers:
                    asyncio.run(_measure(peer, load, plan, number, results[peer.name][load]))
                    yield f"{load} load, {peer.name}"
    finally:
        for peer in peers:
            peer.stop()


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
