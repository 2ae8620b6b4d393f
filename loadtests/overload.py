"""`python -m loadtests.overload`: what a fleet does when more is asked of it than it can do, and who suffers.

A fleet of its own with a 14 M parameter GPT-2 of random weights; answers of 32 to 96 tokens, with a deadline.

The peak is the goodput (answers within their deadline a second) that a closed loop of clients reaches, enough of them
to fill the batch twice. Then requests are sent on time, whatever becomes of them, at 2 and at 10 times that rate. They
follow each other in rounds, and medians of the rounds' ratios are reported. Short answers still fit before a deadline
where long ones no longer do, so that more of them are given than at the peak. `--fairness`: see `fairness.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from loadtests import fairness
from loadtests.open_loop import Reply, closed_loop, goodput, open_loop, refusal_p95
from loadtests.saturated import DEADLINE_S, ROWS, Goal, Tell, fleet_of, plain, sender, write
from services.logs import configure

REPORTS = Path(__file__).parent / "reports"
TIMES = (2, 10)


@dataclass(slots=True)
class Stage:
    """One load's figures, one a round. Seconds, and answers a second."""

    goodput: list[float] = field(default_factory=list[float])
    refusal_p95: list[float] = field(default_factory=list[float])
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter[int])
    malformed: int = 0
    causes: Counter[str] = field(default_factory=Counter[str])

    def take(self, replies: Sequence[Reply]) -> None:
        self.sent += len(replies)
        self.statuses.update(reply.status for reply in replies)
        self.malformed += sum(not reply.is_well_formed for reply in replies)
        self.causes.update(reply.cause for reply in replies if reply.cause)
        self.refusal_p95.append(refusal_p95(replies))


def measure(*, quick: bool, tell: Tell) -> tuple[list[Goal], Any]:
    """The goals, and the figures behind them."""
    seconds, rounds = (20.0, 1) if quick else (45.0, 3)
    with fleet_of(name="overload") as fleet:
        stages = asyncio.run(overload(fleet.url, seconds=seconds, rounds=rounds, tell=tell))
    return overload_goals(stages), {name: plain(stage) for name, stage in stages.items()}


async def overload(url: str, *, seconds: float, rounds: int, tell: Tell) -> dict[str, Stage]:
    """The peak, and what is left of it at each multiple; round after round."""
    stages = {name: Stage() for name in ("peak", *(f"{times}x" for times in TIMES))}
    await closed_loop(sender(url, seed=0), clients=2 * ROWS, seconds=5)
    for number in range(rounds):
        send = sender(url, seed=number)
        for name, stage in stages.items():
            if name == "peak":
                replies = await closed_loop(send, clients=2 * ROWS, seconds=seconds)
            else:
                rate = float(name.removesuffix("x")) * stages["peak"].goodput[-1]
                replies = await open_loop(send, per_second=rate, seconds=seconds)
            stage.goodput.append(goodput(replies, deadline_s=DEADLINE_S, after_s=seconds / 3, seconds=seconds))
            stage.take(replies)
            tell(f"round {number + 1}, {name}: {stage.goodput[-1]:.1f} answers in time a second")
    return stages


def overload_goals(stages: Mapping[str, Stage]) -> list[Goal]:
    goals: list[Goal] = []
    for name, stage in stages.items():
        goals.append(Goal(f"{name}: lost or hung", float(stage.statuses[0]), 0, is_least=False))
        if name == "peak":
            continue
        ratios = [got / peak for got, peak in zip(stage.goodput, stages["peak"].goodput, strict=True)]
        late, good = stage.statuses[504], stage.statuses[200]
        unlike = sum(count for status, count in stage.statuses.items() if status not in (0, 200, 429, 503, 504))
        goals += [
            Goal(f"{name}: goodput / peak", median(ratios), 0.9, is_least=True),
            Goal(f"{name}: p95 of refusals, ms", 1e3 * median(stage.refusal_p95), 50, is_least=False),
            Goal(f"{name}: refusals not well-formed, and other failures", stage.malformed + unlike, 0, is_least=False),
            Goal(f"{name}: late / admitted", late / max(1, late + good), 0.05, is_least=False),
        ]
    return goals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--fairness", action="store_true", help="who suffers, in place of how much gets done")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for the report")
    arguments = parser.parse_args()
    configure("ERROR")
    began = time.perf_counter()
    run, name, what = (
        (fairness.measure, "fairness", fairness.__doc__) if arguments.fairness else (measure, "overload", __doc__)
    )
    goals, figures = run(quick=arguments.quick, tell=lambda text: print(text, file=sys.stderr))
    path = write(arguments.out, name, what or "", goals, figures, time.perf_counter() - began)
    sys.stdout.write(path.read_text())
    if missed := [goal.name for goal in goals if not goal.met]:
        raise SystemExit(f"not met: {', '.join(missed)}")


if __name__ == "__main__":
    main()
