"""Owns loads on a live fleet of the paced model, and what a window of answers says in the planner's terms."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from loadtests.client import Answer, Window, nearest_rank, post
from loadtests.peers.fleet import BenchFleet
from loadtests.peers.instant import PIECE
from loadtests.peers.paced import Device, paced_options, replica_of
from loadtests.planner.measured import Seen
from loadtests.planner.steady import Recorded
from loadtests.sse import EventStream, StreamCut
from loadtests.traffic.trace import Arrival
from loadtests.workload import Job, Mix


@dataclass(slots=True)
class PacedStream(EventStream):
    """An answer of the paced model as it arrives: a piece a token."""

    audio: bytes = b""

    @property
    def pieces(self) -> int:
        return len(self.audio) // len(PIECE)

    def _event(self, event: dict[str, Any], now: float) -> None:
        if "audio" in event:
            self.audio += b64decode(event["audio"])
            self.pace.note(now)

    def _missing(self) -> str:
        return "" if self.audio else "a piece"


class PacedFleet(BenchFleet):
    """A local fleet with so many replicas of the paced model. `answered_by` counts answers by the replica's process."""

    def __init__(self, work: Path, *, replicas: int, rows: int, device: Device) -> None:
        service = {
            "replicas": {"min": replicas, "max": replicas},
            "resources": {"num_cpus": 0.1, "memory": "256MiB"},
        }
        super().__init__("plugin", paced_options(work / "paced", rows, device), work, name="scale-out", service=service)
        self.answered_by: Counter[int] = Counter()

    async def send(self, job: Job) -> Answer:
        """One streamed answer. Raises ServerFailed, also of a refusal, or StreamFailed."""
        body = {
            "model": self.model,
            "instructions": job.prompt,
            "input": "a" * job.output_tokens,
            "voice": "any",
            "response_format": "pcm",
            "stream_format": "sse",
        }
        stream = PacedStream()
        started = time.perf_counter()
        async for data in post(f"{self.url}/v1/audio/speech", body):
            stream.feed(data, time.perf_counter())
        ended = time.perf_counter()
        stream.end()
        if stream.pace.first is None or stream.pieces != job.output_tokens:
            raise StreamCut(f"asked for {job.output_tokens} tokens, got {stream.pieces}")
        self.answered_by[replica_of(stream.audio)] += 1
        return Answer(started, stream.pace.first, ended, job.output_tokens)


def job_of(prompt_tokens: int, output_tokens: int) -> Job:
    return Job("p" * prompt_tokens, prompt_tokens, output_tokens)


def jobs(mix: Mix, seed: int) -> Iterator[Job]:
    """An endless, repeatable sequence."""
    rng = Random(seed)
    while True:
        yield job_of(rng.randint(*mix.prompt), rng.randint(*mix.output))


def poisson_trace(mix: Mix, per_second: float, seconds: float, seed: int) -> list[Arrival]:
    """As many requests as the rate says, each at any moment: a Poisson process, of which the count is known."""
    rng = Random(seed)
    times = sorted(rng.uniform(0.0, seconds) for _ in range(round(per_second * seconds)))
    drawn = zip(times, jobs(mix, seed), strict=False)
    return [Arrival(at, "speech", "", job.prompt_tokens, job.output_tokens) for at, job in drawn]


async def open_loop(
    send: Callable[[Job], Awaitable[Answer]],
    requests: Iterable[Recorded],
    *,
    warm_s: float,
    window_s: float,
    at_edge: Callable[[], None],
) -> Window:
    """Send each request when it is due, whatever became of those before; measure after `warm_s` for `window_s`.

    An answer's time counts from when it was due. All that was
    sent is waited for. `at_edge` is called at both ends of the window. What `send` raises ends the loop.
    """
    answers: list[Answer] = []
    began = time.perf_counter()

    async def one(due: float, job: Job) -> None:
        await asyncio.sleep(due - time.perf_counter())
        answers.append(replace(await send(job), started=due))

    async with asyncio.TaskGroup() as group:
        for at, prompt, output in requests:
            group.create_task(one(began + at, job_of(round(prompt), round(output))))
        await asyncio.sleep(began + warm_s - time.perf_counter())
        at_edge()
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(began + warm_s + window_s - time.perf_counter())
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        at_edge()
    return Window(started, ended, tuple(a for a in answers if a.ended > started and a.started < ended), cpu)


def seen_in(window: Window) -> Seen:
    """Answers a second of those that ended in the window, times in seconds of those sent in it."""
    sent = [answer for answer in window.answers if window.started <= answer.started <= window.ended]
    ended = sum(window.started <= answer.ended <= window.ended for answer in window.answers)
    return Seen(
        answered_per_second=ended / window.seconds,
        time_to_first_p95_s=nearest_rank([answer.first_text - answer.started for answer in sent], 0.95),
        end_to_end_p95_s=nearest_rank([answer.ended - answer.started for answer in sent], 0.95),
    )


def reading(answers: Mapping[int, Sequence[Answer]]) -> tuple[float, float]:
    """Tokens of a prompt that are read a second, and what a request takes besides, in seconds.

    `answers` are of one token each, one after the other, by the length of their prompt: two lengths. A line through the
    medians has the rate as its slope, and the rest as its height at no prompt.
    """
    (short, short_s), (long, long_s) = sorted(
        (length, median(answer.first_text - answer.started for answer in found)) for length, found in answers.items()
    )
    token_s = (long_s - short_s) / (long - short)
    return 1 / token_s, max(0.0, short_s - short * token_s)
