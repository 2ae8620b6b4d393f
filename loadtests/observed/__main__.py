"""`python -m loadtests.observed`: whether Prometheus, the dashboards and traces show what a running fleet does.

A fleet of its own with the embedded models and one route that mirrors, on a free port of 127.0.0.1, with keys: two
tenants, one of them limited, and an operator's key for Prometheus. A real Prometheus with the rules of
deploy/observability scrapes it every 5 s, and a process on loopback collects its traces.

After every model is awake, 5 minutes of mixed load follow: all models, in all modalities, by Poisson arrivals. Beside
it requests are refused (no such key, over a limit, predicted to be late), streams given up, and one is cut at its
deadline. Then Prometheus is asked for every query of every dashboard, as Grafana would: of each model, service and
tenant that was used. A query has data if it gives a number within the load. Those that can have none, or of some alone,
are named with the reason (`verdict.py`); one that is said to have none and has some is wrong as well. Every recording
rule must have data too, and no alert may ring.

A streamed chat is then asked for alone, with a `traceparent`. Its trace must have each span once and under the right
parent; parts lie within their wholes and follow each other, and durations agree with what the client measured.

    sudo tests/services/install                       # once: Prometheus
    python -m loadtests.observed                      # 9 minutes; writes loadtests/reports/observed.md
    python -m loadtests.observed --minutes 1          # a look: models that are asked for once have little to show

The exit status is 0 if nothing is missing, 1 if something is, and 2 if there was nothing to look at.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests.observed import report
from loadtests.observed.observe import Tick, observe
from loadtests.observed.prometheus import PrometheusFailed, PrometheusMissing, find_program
from loadtests.observed.report import Observation
from loadtests.peers.server import NotReady
from loadtests.release.load import LoadFailed
from loadtests.sse import StreamFailed
from services.fleet import FleetError
from services.logs import configure

REPORTS = Path(__file__).parents[1] / "reports"
MODELS = Path(__file__).parents[2] / "models.yaml"
FAILURES = (
    FleetError,
    LoadFailed,
    NotReady,
    OSError,
    PrometheusFailed,
    PrometheusMissing,
    StreamFailed,
    httpx.HTTPError,
)


def run(models: Path, minutes: float, console: Console) -> Observation:
    """One look, with one bar that says which part of it runs. Raises what FAILURES names."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        tempfile.TemporaryDirectory(prefix="prometheus-", ignore_cleanup_errors=True) as work,
    ):
        bar = progress.add_task("starting")

        def tell(part: str, seconds: float | None) -> Tick:
            if not console.is_terminal:
                console.print(part)  # a bar is drawn at the end alone
            progress.reset(bar, description=part, total=seconds)
            return lambda passed: progress.update(bar, completed=passed)

        return observe(models, 60 * minutes, find_program(), Path(work), tell)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error("--minutes is more than 0")
    configure("ERROR")
    console = Console(width=None if sys.stdout.isatty() else 160)
    began = time.perf_counter()
    try:
        seen = run(options.models, options.minutes, console)
    except FAILURES as error:
        Console(stderr=True, soft_wrap=True).print(f"{type(error).__name__}: {error}", markup=False, style="red")
        return 2
    command = " ".join(["python -m loadtests.observed", *(sys.argv[1:] if arguments is None else arguments)])
    assert __doc__ is not None, "python -OO"
    path = report.write(options.out, __doc__.partition("    sudo ")[0], command, seen, time.perf_counter() - began)
    for table in report.tables(seen)[:3]:
        console.print(table.rich)
    for each in seen.missing:
        console.print(f"missing: {each}", markup=False, style="red")
    console.print(f"written: {path}")
    return 1 if seen.missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.observed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=5, help="of the mixed load (5)")
    add("--models", type=Path, default=MODELS, help="the fleet's models.yaml (the embedded one)")
    add("--out", type=Path, default=REPORTS, help="folder for observed.md and observed.json (loadtests/reports)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
