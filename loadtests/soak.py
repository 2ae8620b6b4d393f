"""`python -m loadtests.soak`: whether a fleet that works for long grows, leaks or fails.

A fleet of its own with the embedded models, on a free port of 127.0.0.1 and with a store of its own. The mix of
requests is that of the profile `soak`. First it is found which rate the fleet holds: 95 % of the answers within the
profile's objectives. Long prompts follow until memory no longer grows by 1 % in half a minute: prompts that are kept
for others that begin alike take all that they may (`cache_memory`), which the mix alone fills in an hour. Then 70 % of
the rate is asked for by Poisson arrivals: 3 minutes to warm up, and after a rest the 20 minutes that count.

Every 10 s the processes of the fleet are looked at by role, and `/metrics`. Memory is anonymous memory: what is mapped
from files, such as weights, or shared is the page cache's and not counted. What it grows by is the slope of Theil and
Sen times the length of the load, and may be 2 % of the median, or 1 MiB, which is how exactly the kernel counts.
The threads of a role, and its descriptors without sockets, are medians of the first and the last tenth of the load; 2
more at the end are allowed. Sockets follow the clients' connections, and are counted at rest: after the load there may
be 4 more than before it, and nothing may be open, run or wait. No request may fail, be cut off, late or refused.

    python -m loadtests.soak                                     # 40 minutes; writes loadtests/reports/soak.md
    python -m loadtests.soak --quick      # a look of 10 minutes: what rises and falls over minutes looks like growth
    python -m loadtests.soak --rate 0.8 --minutes 120            # two hours at a rate of one's own, nothing searched

The exit status is 0 if all is kept, 1 if something is not, and 2 if the load could not be run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests.peers.fleet import settings_with_store
from loadtests.release import load, profile
from loadtests.release.capacity import Probe, search
from loadtests.release.load import Load, LoadFailed
from loadtests.release.profile import Profile, ProfileError
from loadtests.soak_report import role_table, write
from loadtests.soak_samples import Sample, take
from loadtests.soak_verdict import Soak, courses, goals
from loadtests.summary import Summary
from services.fleet import FleetError, FleetState, down, up
from services.logs import configure

REPORTS = Path(__file__).parent / "reports"
MODELS = Path(__file__).parents[1] / "models.yaml"
NAME = "soak"
SHARE = 0.7  # of what the fleet holds
GOODPUT = 0.95  # of requests: what a rate that is held is answered with
PRECISION = 0.25  # of the rate that is held
LEAST_REQUESTS = 20  # that a rate is tried with
LEAST_SAMPLES = 2
FILLED = 0.01  # of the fleet's memory: what it grows by in a round of long prompts once caches are full
FILL_ROUNDS = 20  # at most
FILL_SEED = 1000

Tick = Callable[[float], None]
Send = Callable[[float, float, Tick], Summary]  # so many requests a second, for so many seconds
Fill = Callable[[int, float, Tick], Summary]  # the round of that number, of so many seconds
Look = Callable[[float], Sample]  # at so many seconds since the load began
Tell = Callable[
    [str, float], Tick
]  # a part of the run begins, of so many seconds; what it gives is told how many passed


class CannotSoak(Exception):
    """There is nothing to judge; the message says why."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    probe_s: float = 45
    fill_s: float = 30  # a round
    warm_s: float = 180
    soak_s: float = 1200
    every_s: float = 10  # a sample
    rest_s: float = 60  # until HAProxy has let go of the connections that it keeps


QUICK = Timing(probe_s=15, fill_s=30, warm_s=60, soak_s=120, every_s=5, rest_s=30)


def measure(
    send: Send, fill: Fill, look: Look, tell: Tell, timing: Timing, *, start: float, rate: float | None
) -> Soak:
    """The whole run. `start` is the rate that the search begins with, if no `rate` is given. Raises CannotSoak."""
    holds = None if rate is not None else capacity(send, tell, timing, start)
    rate = SHARE * holds if holds is not None else rate
    assert rate is not None
    fill_caches(fill, look, tell, timing)
    send(rate, timing.warm_s, tell(f"warming up at {rate:.2f} requests/s", timing.warm_s))
    before = _at_rest(look, tell, timing.rest_s)
    samples: list[Sample] = []
    tick = tell(f"soaking at {rate:.2f} requests/s", timing.soak_s)

    def watch(second: float) -> None:
        tick(second)
        if timing.every_s * (len(samples) + 1) <= second <= timing.soak_s:
            samples.append(look(second))

    summary = send(rate, timing.soak_s, watch)
    if len(samples) < LEAST_SAMPLES:
        raise CannotSoak(f"only {len(samples)} samples were taken: a load of {timing.soak_s:g} s is too short")
    return Soak(rate, holds, summary, samples, before, _at_rest(look, tell, timing.rest_s))


def capacity(send: Send, tell: Tell, timing: Timing, start: float) -> float:
    """The highest rate that is held. Raises CannotSoak if none is, or the load generator ends the search."""

    def try_rate(rate: float) -> Probe:
        seconds = max(timing.probe_s, LEAST_REQUESTS / rate)
        summary = send(rate, seconds, tell(f"trying {rate:.2f} requests/s", seconds))
        totals = summary.totals
        share = totals.good / max(1, totals.sent + totals.unsent)
        units = sum(group.units for group in summary.groups) / seconds
        return Probe(
            per_second=rate,
            goodput=share,
            units_per_second=units,
            is_limited=summary.generator_is_busy,
            kept=share >= GOODPUT,
        )

    send(start, timing.probe_s, tell("waking the models", timing.probe_s))
    probes = list(search(try_rate, start=start, precision=PRECISION))
    if probes[-1].is_limited:
        raise CannotSoak(f"the load generator is at its limit at {probes[-1].per_second:.2g} requests/s: give --rate")
    held = max((probe.per_second for probe in probes if probe.kept), default=None)
    if held is None:
        raise CannotSoak(f"the fleet holds no rate: not even {probes[-1].per_second:.2g} requests/s")
    return held


def fill_caches(fill: Fill, look: Look, tell: Tell, timing: Timing) -> None:
    """Rounds of long prompts until memory no longer grows. What still does after the last is the load's to show."""
    before = _memory(look)
    for number in range(FILL_ROUNDS):
        fill(number, timing.fill_s, tell(f"filling caches, round {number + 1}", timing.fill_s))
        after = _memory(look)
        if after - before < FILLED * before:
            return
        before = after


def _memory(look: Look) -> int:
    return sum(usage.memory for usage in look(0.0).roles.values())


def _at_rest(look: Look, tell: Tell, seconds: float) -> Sample:
    tick = tell("resting", seconds)
    time.sleep(seconds)
    tick(seconds)
    return look(0.0)


@contextmanager
def fleet_of(models: Path, tell: Callable[[str], None]) -> Generator[FleetState]:
    """A running fleet. Its work folder's path is short: Ray puts Unix sockets below it."""
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-", dir="/tmp", ignore_cleanup_errors=True) as work:
        settings = settings_with_store(work)
        state = up(models, name=NAME, settings=settings, on_progress=tell)  # if it fails, nothing of ours is left
        try:
            yield state
        finally:
            down(NAME, settings.home)


def send_to(url: str, wanted: Profile, rate: float, seconds: float, tick: Tick) -> Summary:
    """The mix of the profile's first stage at another rate, evenly, for as long. Raises LoadFailed."""
    mix = wanted.stages[0].load.model_dump() | {"per_second": rate, "seconds": seconds, "shape": None}
    return load.run(Load.model_validate(mix), url=url, objectives=wanted.objectives, tick=tick)


def fill_of(url: str, wanted: Profile, number: int, seconds: float, tick: Tick) -> Summary:
    """Long prompts that none has asked before, two at a time. Raises LoadFailed."""
    long = Load(
        clients=2, seconds=seconds, modalities="chat", lengths="long-prompts", max_tokens=1, seed=FILL_SEED + number
    )
    return load.run(long, url=url, objectives=wanted.objectives, tick=tick)


def run(options: argparse.Namespace, wanted: Profile, timing: Timing, console: Console) -> Soak:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def tell(part: str, seconds: float) -> Tick:
            if not console.is_terminal:
                console.print(part)  # bars are drawn at the end alone
            bar = progress.add_task(part, total=seconds)
            return lambda passed: progress.update(bar, completed=min(passed, seconds))

        starting = progress.add_task("starting a fleet", total=None)
        with fleet_of(options.models, lambda text: progress.update(starting, description=text)) as fleet:
            return measure(
                partial(send_to, fleet.url, wanted),
                partial(fill_of, fleet.url, wanted),
                partial(take, fleet.pid, fleet.url),
                tell,
                timing,
                start=wanted.stages[0].load.per_second or 1.0,
                rate=options.rate,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if not all(given is None or given > 0 for given in (options.rate, options.minutes)):
        parser.error("--rate and --minutes are more than 0")
    configure("ERROR")
    console = Console(width=None if sys.stdout.isatty() else 160)
    timing = QUICK if options.quick else Timing()
    if options.minutes is not None:
        timing = replace(timing, soak_s=60 * options.minutes)
    began = time.perf_counter()
    try:
        soak = run(options, profile.read(options.profile), timing, console)
    except (CannotSoak, FleetError, LoadFailed, OSError, ProfileError) as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, style="red")
        return 2
    found = courses(soak)
    wanted = goals(soak, found)
    command = " ".join(["python -m loadtests.soak", *(sys.argv[1:] if arguments is None else arguments)])
    assert __doc__ is not None, "python -OO"
    what = __doc__.partition("    python -m")[0]
    path = write(options.out, what, command, soak, found, wanted, time.perf_counter() - began)
    console.print(role_table(found).rich)
    console.print(f"written: {path}")
    missed = [goal for goal in wanted if not goal.met]
    for goal in missed:
        console.print(f"[red]missed:[/] {goal.name}: {goal.got:.4g}, {goal.limit}")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rate", type=float, help="requests a second, in place of 70 %% of what the fleet holds")
    add("--minutes", type=float, help="of the load that counts (20)")
    add("--quick", action="store_true", help="2 minutes of load, after 1 of warm-up and short probes")
    add("--profile", default="soak", help="whose first stage says what is asked for: a name or a YAML file (soak)")
    add("--models", type=Path, default=MODELS, help="the fleet's models.yaml (the embedded one)")
    add("--out", type=Path, default=REPORTS, help="folder for soak.md, soak.json and charts (loadtests/reports)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
