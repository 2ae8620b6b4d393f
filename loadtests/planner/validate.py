"""`python -m loadtests.planner.validate MEASURED.json`: what the planner predicts beside what a live fleet did.

The file has the measured rates of one replica, the lengths that were asked for, and loads with what became of them.
Every load is simulated several times, for as long as it was measured. The exit status is 1 if throughput is off by more
than 15%, or the p95 of the time to first by more than 30% and 50 ms, for any of them; other figures are only shown. The
numbers here only show the form.

    {"name": "GPT-2 14M on two cores",
     "load": {"rates": {"units_per_second": {"1": 190, "4": 700, "16": 1500}, "prompt_units_per_second": 4000,
                        "prompt_piece": 64, "overhead_s": 0.02},
              "prompt": 32, "output": {"low": 32, "high": 96}, "max_wait_s": 60},
     "points": [
       {"replicas": 1, "per_second": 12, "arrivals": "even", "seconds": 60, "warm_s": 10,
        "seen": {"answered_per_second": 11.9, "time_to_first_p95_s": 0.2, "end_to_end_p95_s": 2.5, "refused": 0}},
       {"replicas": 2, "clients": 64, "seconds": 60, "warm_s": 10,
        "seen": {"answered_per_second": 44.0, "time_to_first_p95_s": 0.9}},
       {"replicas": 2, "trace": "requests.csv", "seconds": 60, "warm_s": 10,
        "seen": {"answered_per_second": 23.1, "time_to_first_p95_s": 0.3}},
       {"replicas": 2, "summary": "load.json"}]}

`arrivals` are "poisson" (the default) or "even". A `trace` has the very requests that were sent, as Locust's `--trace`
replays them, so that both figures are of the same draw. `seen` counts answers that ended between the warm-up and the
end, and times of requests that were sent then. `summary` is a file that our load tests write: it stands for all but
`replicas`, and `trace` where there was one. `python -m loadtests.planner.measure` writes such a file of its own fleets.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console

from loadtests.planner.measured import Measurements, Point
from loadtests.planner.plan import Load, PlanError, read
from loadtests.planner.steady import SteadyRun
from loadtests.tables import Table

THROUGHPUT_ERROR = 0.15
TIME_ERROR = 0.30
SMALL_S = 0.05  # a time is not wrong by less
REPEATS = 5
UNREADABLE = 2


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one load. `bound` is relative; None: it is only shown."""

    load: str
    figure: str
    measured: float
    predicted: float
    bound: float | None
    small: float = 0.0

    @property
    def error(self) -> float:
        if self.predicted == self.measured:
            return 0.0
        return (self.predicted - self.measured) / self.measured if self.measured else float("inf")

    @property
    def is_met(self) -> bool:
        """nan, of a prediction that nothing is answered, is not."""
        if self.bound is None:
            return True
        return abs(self.error) <= self.bound or abs(self.predicted - self.measured) <= self.small


def compare(load: Load, point: Point) -> list[Compared]:
    runs = [SteadyRun(load, point.steady, seed=seed) for seed in range(REPEATS)]
    times = [run.ledger.quantiles() for run in runs]
    seen, label = point.seen, point.label
    rate = fmean(run.answered_per_second for run in runs)
    first_s, whole_s = (fmean(each[name]["p95"] for each in times) for name in ("time_to_first_s", "end_to_end_s"))
    found = [
        Compared(label, "answers/s", seen.answered_per_second, rate, THROUGHPUT_ERROR),
        Compared(label, "time to first, p95 (s)", seen.time_to_first_p95_s, first_s, TIME_ERROR, SMALL_S),
    ]
    if seen.end_to_end_p95_s is not None:
        found.append(Compared(label, "end to end, p95 (s)", seen.end_to_end_p95_s, whole_s, None))
    if seen.refused is not None:
        refused = fmean(run.ledger.refused_share for run in runs)
        found.append(Compared(label, "refused, share", seen.refused, refused, None))
    return found


def table(name: str, found: Sequence[Compared]) -> Table:
    head = ("load", "figure", "measured", "predicted", "error", "stated", "met")
    rows = [
        (
            each.load,
            each.figure,
            f"{each.measured:.3g}",
            f"{each.predicted:.3g}",
            f"{each.error:+.1%}",
            "" if each.bound is None else f"{each.bound:.0%}" + (f" or {each.small:g} s" if each.small else ""),
            "" if each.bound is None else "yes" if each.is_met else "no",
        )
        for each in found
    ]
    return Table(f"{name}: predicted and measured", head, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.planner.validate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("measured", type=Path, help="the measurements, a JSON or YAML file")
    parser.add_argument("--out", type=Path, help="folder of validation.md and validation.json (default: none)")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        measured = read(options.measured, Measurements)
    except PlanError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, soft_wrap=True)
        return UNREADABLE
    found = [each for point in measured.points for each in compare(measured.load, point)]
    compared = table(measured.name, found)
    console.print(compared.rich)
    missed = [each for each in found if not each.is_met]
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "validation.md").write_text(f"# {compared.title}\n\n{compared.markdown}\n")
        rows = [{**asdict(each), "error": each.error, "met": each.is_met} for each in found]
        (options.out / "validation.json").write_text(json.dumps(rows, indent=1) + "\n")
    if missed:
        console.print(f"{len(missed)} of {len(found)} figures are off by more than what is stated.", style="red")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
