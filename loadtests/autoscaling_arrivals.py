"""Owns the recorded arrivals that autoscaling is simulated with: requests in each second, in files beside this one.

`python -m loadtests.autoscaling --write-arrivals` draws them again, the same for the same seed: Poisson counts (Knuth,
The Art of Computer Programming, 3.4.1) around a rate that changes with time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent / "autoscaling_arrivals"
SEED = 0
MINUTE = 60


def _steady(second: int) -> float:
    return min(10.0, second / 24)  # after four minutes


def _ramp(second: int) -> float:
    return min(24.0, 0.5 + 23.5 * second / (10 * MINUTE))


def _burst(second: int) -> float:
    return 40.0 if 5 * MINUTE <= second < 5 * MINUTE + 30 else 2.0


def _day(second: int) -> float:
    """A day in an hour: nothing for an eighth of it, two peaks of unlike height."""
    hour = 24 * second / (60 * MINUTE)
    if hour < 3:
        return 0.0
    return 12 * math.sin(math.pi * (hour - 3) / 21) ** 2 + 12 * math.exp(-(((hour - 15) / 3) ** 2))


def _on_off(second: int) -> float:
    return 12.0 if second % (3 * MINUTE) < MINUTE else 0.0


SHAPES: Mapping[str, tuple[Callable[[int], float], int]] = {
    "steady": (_steady, 15 * MINUTE),
    "ramp": (_ramp, 15 * MINUTE),
    "burst": (_burst, 15 * MINUTE),
    "day": (_day, 60 * MINUTE),
    "on-off": (_on_off, 18 * MINUTE),
}


def write() -> None:
    """A line for each minute."""
    FOLDER.mkdir(exist_ok=True)
    for name, (rate, seconds) in SHAPES.items():
        draw = Random(f"{name} {SEED}")
        counts = [_poisson(draw, rate(second)) for second in range(seconds)]
        lines = [" ".join(map(str, counts[at : at + MINUTE])) for at in range(0, seconds, MINUTE)]
        (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")


def read(name: str) -> Sequence[int]:
    return [int(count) for count in (FOLDER / f"{name}.txt").read_text().split()]


def _poisson(draw: Random, mean: float) -> int:
    count, product, limit = 0, draw.random(), math.exp(-mean)
    while product > limit:
        count += 1
        product *= draw.random()
    return count
