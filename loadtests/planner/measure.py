"""`python -m loadtests.planner.measure`: what one replica and two do over HTTP, beside what the planner says they do.

Each fleet is Castalia itself on this machine: HAProxy, gateway, router, replicas, engine. The model is paced
(`loadtests/peers/paced.py`): it waits as a device would and computes nothing, so that two replicas of it fit on two
cores. What is checked is therefore gateway, routing, queues, batches and the planner, and not a kernel; nor whether a
model's steps take what the planner supposes of them (`rates.py`), for these do. Of your own model, measure the rates
and the loads on your own devices, in the same form.

First one replica tells its rates, as those of any model are measured: tokens a second with 1, 4, 8 and 16 clients that
each wait for their answer, and how fast prompts are read. The planner knows these, `max_batch_size`, and how much of a
prompt a step reads; it is not told what the paced model's steps take. Then one replica and two have the same kinds of
load: requests that come independently of each other (Poisson) at 50, 70 and 90% of what the rates say that the replicas
can do, each sent when it is due; and enough clients to fill every batch twice. The planner simulates the very requests
that were sent: in a minute near capacity, two draws of one rate differ by more than the error that is stated.

    python -m loadtests.planner.measure                   # 10 minutes; writes loadtests/reports/scale_out.md
    python -m loadtests.planner.measure --quick           # a look: 5 minutes
    python -m loadtests.planner.validate loadtests/reports/scale_out/measured.json     # its predictions again

Written are the report, its figures as JSON, its charts, and a folder `scale_out` with what `validate` reads. The exit
status is 1 if a prediction is off by more than `validate` states. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadtests.client import Answer, Window, closed_loop
from loadtests.peers.paced import LONGEST, Device
from loadtests.planner.forms import Lengths
from loadtests.planner.live import PacedFleet, job_of, jobs, open_loop, poisson_trace, reading, seen_in
from loadtests.planner.measured import Measurements, Point, recorded
from loadtests.planner.plan import Load
from loadtests.planner.rates import Rates
from loadtests.planner.scale_out import MEASURED, Loaded, Scale, tables, write, write_measured
from loadtests.traffic.trace import write_trace
from loadtests.workload import Mix
from services.logs import configure

REPORTS = Path(__file__).parents[1] / "reports"
NAME = "A paced model on one replica and two"
DEVICE = Device()
PLACES = 16
MIX = Mix(prompt=(32, 128), output=(16, 48))
WIDTHS = (1, 4, 8, PLACES)
WIDTH_WARM_S = 2.0
WIDTH_OUTPUT = 64  # tokens: the time between two answers is little beside it
REPLICAS = (1, 2)
SHARES = (0.5, 0.7, 0.9)
FILLED = 2  # times its places that a replica has clients, to saturate it
READINGS = {DEVICE.piece: 24, LONGEST: 6}  # by the length of a prompt, how many are read
Tell = Callable[[str], None]
AtEdge = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds of each measurement: of a width of one replica, and of a load before and after it counts."""

    width_s: float
    warm_s: float
    window_s: float


QUICK, FULL = Plan(5, 5, 15), Plan(10, 8, 52)
STEPS = len(WIDTHS) + 1 + len(REPLICAS) * (1 + len(SHARES) + 1)  # measurements and starts


def measure(plan: Plan, folder: Path, tell: Tell) -> tuple[Load, list[Loaded]]:
    """Start each fleet in turn and load it; says what was just done. What is refused or fails ends the run."""
    load: Load | None = None
    loads: list[Loaded] = []
    for replicas in REPLICAS:
        with _running(replicas) as fleet:
            tell(f"started {replicas} replica{'s' * (replicas > 1)}")
            load = load or asyncio.run(load_of(fleet, plan, tell))
            for share in SHARES:
                loads.append(asyncio.run(_open(fleet, replicas, plan, folder, share, load.capacity)))
                tell(loads[-1].point.label)
            loads.append(asyncio.run(_closed(fleet, replicas, plan)))
            tell(loads[-1].point.label)
    assert load is not None, "there are replicas"
    return load, loads


@contextmanager
def _running(replicas: int) -> Generator[PacedFleet]:
    """The work folder's path is short: Ray puts Unix sockets below it."""
    with tempfile.TemporaryDirectory(prefix="scale-", dir="/tmp", ignore_cleanup_errors=True) as work:
        fleet = PacedFleet(Path(work), replicas=replicas, rows=PLACES, device=DEVICE)
        try:
            fleet.start()
            yield fleet
        finally:
            fleet.stop()


async def load_of(fleet: PacedFleet, plan: Plan, tell: Tell) -> Load:
    """What one replica does, measured from outside, and what it will be asked for."""
    units: dict[int, float] = {}
    for width in WIDTHS:
        window = await closed_loop(
            fleet.send,
            jobs(Mix((1, 1), (WIDTH_OUTPUT, WIDTH_OUTPUT)), seed=0),
            clients=width,
            warm_s=WIDTH_WARM_S,
            window_s=plan.width_s,
            at_edge=lambda: None,
        )
        units[width] = window.tokens_per_second
        tell(f"{width} clients of one replica: {units[width]:.0f} tokens/s")
    answers: dict[int, list[Answer]] = {}
    for length, count in READINGS.items():
        answers[length] = [await fleet.send(job_of(length, 1)) for _ in range(count)]
    read, overhead_s = reading(answers)
    tell(f"prompts alone: {read:.0f} tokens/s")
    rates = Rates(
        units_per_second=units,
        places=PLACES,
        prompt_units_per_second=read,
        prompt_piece=DEVICE.piece,
        overhead_s=overhead_s,
    )
    prompt, output = (Lengths(low=low, high=high) for low, high in (MIX.prompt, MIX.output))
    return Load(rates=rates, prompt=prompt, output=output)


async def _open(fleet: PacedFleet, replicas: int, plan: Plan, folder: Path, share: float, capacity: float) -> Loaded:
    """Poisson arrivals at this share of what so many replicas can do; the trace is written into the folder."""
    path = folder / f"{replicas}-at-{100 * share:.0f}.csv"
    rate, seconds = share * capacity * replicas, plan.warm_s + plan.window_s
    write_trace(path, poisson_trace(MIX, rate, seconds, seed=round(100 * share) + replicas))
    requests = recorded(path)

    def start(at_edge: AtEdge) -> Awaitable[Window]:
        return open_loop(fleet.send, requests, warm_s=plan.warm_s, window_s=plan.window_s, at_edge=at_edge)

    return await _loaded(fleet, plan, start, {"replicas": replicas, "trace": path}, share)


async def _closed(fleet: PacedFleet, replicas: int, plan: Plan) -> Loaded:
    clients = FILLED * PLACES * replicas

    def start(at_edge: AtEdge) -> Awaitable[Window]:
        return closed_loop(
            fleet.send,
            jobs(MIX, seed=replicas),
            clients=clients,
            warm_s=plan.warm_s,
            window_s=plan.window_s,
            at_edge=at_edge,
        )

    return await _loaded(fleet, plan, start, {"replicas": replicas, "clients": clients}, None)


async def _loaded(
    fleet: PacedFleet,
    plan: Plan,
    start: Callable[[AtEdge], Awaitable[Window]],
    asked: Mapping[str, object],
    share: float | None,
) -> Loaded:
    edges: list[Mapping[str, float]] = []
    before = Counter(fleet.answered_by)
    window = await start(lambda: edges.append(dict(fleet.cpu_seconds())))
    point = Point.model_validate({**asked, "seconds": plan.window_s, "warm_s": plan.warm_s, "seen": seen_in(window)})
    cpu = {role: (edges[1][role] - edges[0].get(role, 0.0)) / window.seconds for role in edges[1]}
    answered = sorted((fleet.answered_by - before).values())
    return Loaded(point, share, {"load generator": window.client_cpu_share, **cpu}, answered)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.planner.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="20 seconds a load in place of 60: figures of fewer answers"
    )
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report (default: %(default)s)")
    options = parser.parse_args(arguments)
    configure("ERROR")
    console = Console(width=None if sys.stdout.isatty() else 140)
    traces = (options.out / MEASURED).parent
    traces.mkdir(parents=True, exist_ok=True)
    began, load_before = time.perf_counter(), os.getloadavg()[0]
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting a fleet", total=STEPS)
        load, loads = measure(
            QUICK if options.quick else FULL, traces, lambda what: progress.update(bar, advance=1, description=what)
        )
    seconds = time.perf_counter() - began
    measured = Measurements(name=NAME, load=load, points=[each.point for each in loads])
    command = "python -m loadtests.planner.measure" + " --quick" * options.quick
    scale = Scale(write_measured(measured, options.out).load, loads, command, seconds, load_before)
    for table in tables(scale):
        console.print(table.rich)
    assert __doc__ is not None, "python -OO"
    path = write(scale, options.out, __doc__.partition("\n\n")[2].partition("    python -m")[0])
    console.print(scale.verdict, style="red" if scale.missed else "green")
    console.print(f"The whole report: {path}", markup=False)
    return int(bool(scale.missed))


if __name__ == "__main__":
    sys.exit(main())
