"""`python -m loadtests.planner PLAN.yaml --out FOLDER`: what a traffic forecast takes in replicas, devices and money.

A plan lists services with measured rates, and their traffic; `examples/` beside this file has some. For each service
the replicas, their nodes, the autoscaling policy that the fleet runs, and requests on their way through queues and
batches are simulated, event by event. Of large fleets a part is simulated (the report says how much, and by how much
the figures change with half of it), so a day at 10^5 requests a second takes under a minute. Written are plan.md,
plan.json, and charts.

    services:
      - name: chat
        rates: measured.json           # or in place: {units_per_second: {1: 60, 16: 700, 64: 1900}, ...}
        prompt: {mean: 300, p95: 1000} # units; or a number, {low, high}, {p50, p95} ... and most: as max_tokens
        output: {mean: 200, p95: 600}
        replicas: {min: 4, max: 5000, target_wait_s: 1}   # as in models.yaml
        resources: {num_gpus: 1}                          # as in models.yaml
        start_s: 90
        node: {devices: 8, start_s: 4m}
        price_per_device_hour: 2.5
        objectives: {time_to_first_s: 2, attainment: 0.99}
        traffic:                                          # what is listed is added up
          - diurnal: {low: 20000, high: 100000, peak_at: 15h}
          - burst: {at: 12h, lasts: 5m, rate: 30000}

Parts of the traffic: constant, points ([[0, 10], [6h, 500], ...]), diurnal, burst, arrivals (a file of requests in each
second), csv (columns seconds and requests_per_second); each with `times`. Whether the rates predict a real fleet:
`python -m loadtests.planner.validate --help`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtests.planner import report
from loadtests.planner.plan import Plan, PlanError, Service, read_plan
from loadtests.planner.results import Result, solve
from loadtests.planner.search import Unreachable, replicas_for
from loadtests.planner.thinning import BUDGET

REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.planner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, help="the plan, a YAML file")
    parser.add_argument("--out", type=Path, default=Path("plan"), help="folder of the report (default: %(default)s)")
    parser.add_argument("--service", help="this one of the plan's services only")
    parser.add_argument(
        "--for-rate", type=_rate, metavar="RATE", help="only say how many replicas so many requests a second need"
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=BUDGET,
        help="how many are simulated, about: more take longer and are more exact (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws: the same figures for the same seed")
    options = parser.parse_args(arguments)
    console, errors = Console(), Console(stderr=True)
    if options.requests < 1:
        parser.error(f"--requests is at least 1; got {options.requests}")
    try:
        plan = read_plan(options.plan)
        services = _chosen(plan, options.service)
    except PlanError as error:
        errors.print(str(error), style="red", markup=False, soft_wrap=True)
        return REFUSED
    if options.for_rate is not None:
        return _for_rate(services, options.for_rate, console, errors)
    results = _solved(plan, services, options.requests, options.seed, errors)
    path = report.write(plan, results, options.out)
    console.print(report.overview(results).rich)
    for result in results:
        for note in report.notes(result):
            console.print(f"{result.service.name}: {note}", markup=False, highlight=False)
    console.print(f"The whole report: {path}", markup=False)
    return 0


def _solved(plan: Plan, services: Sequence[Service], budget: int, seed: int, errors: Console) -> list[Result]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task("", total=2 * plan.seconds * len(services))
        found: list[Result] = []
        for service in services:

            def tell(what: str, done: int, name: str = service.name) -> None:
                progress.update(bar, description=f"{name}: {what}", advance=done)

            found.append(solve(service, plan.seconds, budget, tell, seed=seed))
    return found


def _for_rate(services: Sequence[Service], rate: float, console: Console, errors: Console) -> int:
    found, failed = {}, False
    for service in services:
        try:
            with errors.status(f"{service.name} ...") as status:
                found[service.name] = replicas_for(
                    service,
                    service.objectives,
                    rate,
                    lambda number, name=service.name, status=status: status.update(f"{name}: {number} replicas"),
                )
        except Unreachable as error:
            failed = True
            errors.print(f"{service.name}: {error}", style="red", markup=False)
    if found:
        console.print(report.for_rate(found).rich)
    return int(failed)


def _chosen(plan: Plan, name: str | None) -> Sequence[Service]:
    chosen = [service for service in plan.services if name in (None, service.name)]
    if not chosen:
        known = ", ".join(service.name for service in plan.services)
        raise PlanError(f"the plan has no service {name!r}; it has {known}")
    return chosen


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"a rate is over 0; got {text}")
    return rate


if __name__ == "__main__":
    sys.exit(main())
