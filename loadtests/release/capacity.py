"""Find the highest load that each model answers within its objectives.

`castalia capacity` is this. For a model the rate is doubled from `--start` until the objectives are missed (or halved
until they are kept), then the bracket is halved until it is narrower than `--precision`. A rate is kept if the share of
requests that were answered within the objectives is at least `--goodput`. Each probe is an open loop by Locust, with
Poisson arrivals, so that a fleet that falls behind cannot slow its own load down. The API key is read from
CASTALIA_API_KEY.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from loadtests.objectives import Objective, Objectives
from loadtests.release import load
from loadtests.release.load import Load, LoadFailed
from loadtests.tables import Row, Table
from loadtests.traffic.lengths import LENGTHS

MOST_PROBES = 20  # a factor of a million from the start to the end
USUAL = Objective(time_to_first_s=2.0, end_to_end_s=30.0)


class Probe(BaseModel):
    """One rate that was tried. `limited`: by the load generator, so that the fleet may hold more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_second: float
    goodput: float
    units_per_second: float
    time_to_first_p95_s: float | None = None
    end_to_end_p95_s: float | None = None
    is_limited: bool = False
    kept: bool


class Capacity(BaseModel):
    """`per_second`: the highest rate that was kept, None if none was. The truth lies between it and `missed_at`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: str
    model: str
    goodput: float
    objective: Objective
    per_second: float | None
    missed_at: float | None
    probes: list[Probe]


def search(try_rate: Callable[[float], Probe], *, start: float, precision: float) -> Iterator[Probe]:
    """Probes, each as soon as it is done, until the bracket's upper end is within `precision` of its lower one.

    Ends early at a probe that the load generator limits, and after `MOST_PROBES`.
    """
    kept: float | None = None
    missed: float | None = None
    rate = start
    for _ in range(MOST_PROBES):
        probe = try_rate(rate)
        yield probe
        if probe.is_limited:
            return
        if probe.kept:
            kept = rate
        else:
            missed = rate
        if kept is None:
            rate /= 2
        elif missed is None:
            rate *= 2
        elif missed / kept <= 1 + precision:
            return
        else:
            rate = (kept * missed) ** 0.5  # precision is a ratio, and so is the middle


def capacity_of(modality: str, model: str, goodput: float, objective: Objective, probes: Sequence[Probe]) -> Capacity:
    missed = min((probe.per_second for probe in probes if not probe.kept), default=None)
    kept = [probe.per_second for probe in probes if probe.kept and (missed is None or probe.per_second < missed)]
    return Capacity(
        modality=modality,
        model=model,
        goodput=goodput,
        objective=objective,
        per_second=max(kept, default=None),
        missed_at=missed,
        probes=sorted(probes, key=lambda probe: probe.per_second),
    )


def prober(options: argparse.Namespace, modality: str, model: str, objective: Objective) -> Callable[[float], Probe]:
    objectives = Objectives({modality: objective})

    def try_rate(rate: float) -> Probe:
        asked = Load(
            per_second=rate,
            seconds=max(options.seconds, options.least / rate),
            modalities=modality,
            model=model,
            lengths=options.lengths,
            max_tokens=options.max_tokens,
            seed=options.seed,
            processes=options.processes,
        )
        summary = load.run(asked, url=options.url, objectives=objectives)
        (group,) = summary.groups or [None]
        if group is None:
            raise LoadFailed(f"nothing was sent to {model} in {asked.seconds:.0f} s at {rate:g} requests/s")
        due = group.sent + group.unsent
        times = {name: group.metrics[name].p95 for name in ("time_to_first_s", "end_to_end_s") if name in group.metrics}
        return Probe(
            per_second=rate,
            goodput=group.good / due,
            units_per_second=group.units / summary.seconds,
            time_to_first_p95_s=times.get("time_to_first_s"),
            end_to_end_p95_s=times.get("end_to_end_s"),
            is_limited=summary.generator_is_busy,
            kept=group.good / due >= options.goodput,
        )

    return try_rate


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    objective = Objective(
        time_to_first_s=options.time_to_first, end_to_end_s=options.end_to_end, between_chunks_p99_s=options.between
    )
    if objective == Objective():
        objective = USUAL
    found: list[Capacity] = []
    try:
        for asked in options.models:
            modality, _, model = asked.partition(":")
            probes: list[Probe] = []
            for probe in search(
                prober(options, modality, model, objective), start=options.start, precision=options.precision
            ):
                probes.append(probe)
                mark = "kept" if probe.kept else "missed"
                note = ", but the load generator is at its limit" if probe.is_limited else ""
                console.print(f"{asked}: {probe.per_second:.3g} requests/s: goodput {probe.goodput:.1%}, {mark}{note}")
            found.append(capacity_of(modality, model, options.goodput, objective, probes))
    except LoadFailed as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, style="red")
        raise SystemExit(2) from None
    console.print(table(found).rich)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("[" + ",\n".join(each.model_dump_json(indent=1) for each in found) + "]\n")
        console.print(f"written: {options.out}")
    if any(each.per_second is None for each in found):
        raise SystemExit(1)


def table(found: Sequence[Capacity]) -> Table:
    head = ("model", "modality", "holds, requests/s", "missed at", "units/s then", "p95 first, s", "p95 end, s")
    rows: list[Row] = []
    for each in found:
        at = next((probe for probe in each.probes if probe.per_second == each.per_second), None)
        times = (None, None, None) if at is None else (at.units_per_second, at.time_to_first_p95_s, at.end_to_end_p95_s)
        cells = (each.per_second, each.missed_at, *times)
        rows.append((each.model, each.modality, *("none" if cell is None else f"{cell:.3g}" for cell in cells)))
    return Table("", head, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="castalia capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODALITY:MODEL",
        type=_asked,
        help="as chat:smollm2-135m-instruct, image:digits-gan",
    )
    load.add_url(parser)
    add("--goodput", type=_share, default=0.95, help="share of requests to be answered within the objectives [0.95]")
    add(
        "--time-to-first",
        type=_positive,
        help="an objective: seconds to the first text, preview or byte [2, if none is given]",
    )
    add("--between", type=_positive, help="an objective: seconds from a piece to the next, in all but 1 %% of pieces")
    add("--end-to-end", type=_positive, help="an objective: seconds to the end of an answer [30, if none is given]")
    add(
        "--lengths",
        choices=list(LENGTHS),
        default="short",
        help="of prompts and answers of text [short]",
    )
    add("--max-tokens", type=int, help="the longest answer of text asked for")
    add("--start", type=_positive, default=1.0, help="the first rate that is tried, requests/s [1]")
    add("--precision", type=_positive, default=0.1, help="ends once the rate is known up to this share [0.1]")
    add("--seconds", type=_positive, default=30.0, help="that a rate is tried for, at least [30]")
    add("--least", type=_positive, default=20.0, help="requests that a rate is tried with, at least [20]")
    add("--seed", type=int, default=0, help="of arrivals and requests [0]")
    add("--processes", type=int, default=1, help="of the load generator [1]")
    add("--out", type=Path, metavar="FILE.json", help="all probes, for the planner and for comparison")
    return parser


def _asked(text: str) -> str:
    modality, _, model = text.partition(":")
    if not modality or not model:
        raise argparse.ArgumentTypeError(f"MODALITY:MODEL, as chat:smollm2-135m-instruct; got {text!r}")
    return text


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be over 0; got {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be over 0 and at most 1; got {text}")
    return value


if __name__ == "__main__":
    main()
