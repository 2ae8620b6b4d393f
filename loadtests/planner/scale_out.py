"""Owns the report of one replica and two: what was measured, what the planner says of it, and if it is right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtests.charts import Line, line_chart
from loadtests.planner.measured import Measurements, Point
from loadtests.planner.plan import Load, read
from loadtests.planner.validate import Compared, compare, table
from loadtests.report import machine
from loadtests.tables import Table

NAME = "scale_out"
MEASURED = Path(NAME) / "measured.json"
THROUGHPUT, FIRST = 0, 1  # of what `compare` finds


@dataclass(frozen=True, slots=True)
class Loaded:
    """One load on a live fleet. `share` is of what the replicas can do; None of clients that saturate them.

    `cpu` is processors taken, by who took them; `answered` has the answers of each replica.
    """

    point: Point
    share: float | None
    cpu: Mapping[str, float]
    answered: Sequence[int]


@dataclass(slots=True)
class Scale:
    """Everything that was measured, and beside each load what the planner says. `seconds` is what the run took."""

    load: Load
    loads: Sequence[Loaded]
    command: str
    seconds: float
    load_before: float
    compared: Sequence[Sequence[Compared]] = field(init=False)

    def __post_init__(self) -> None:
        self.compared = [compare(self.load, each.point) for each in self.loads]

    @property
    def figures(self) -> list[Compared]:
        return [figure for figures in self.compared for figure in figures]

    @property
    def missed(self) -> list[Compared]:
        return [figure for figure in self.figures if not figure.is_met]

    @property
    def saturated(self) -> list[tuple[int, Compared]]:
        """Answers a second with every batch full, by the number of replicas."""
        pairs = zip(self.loads, self.compared, strict=True)
        return [(each.point.replicas, found[THROUGHPUT]) for each, found in pairs if each.share is None]

    @property
    def verdict(self) -> str:
        (few, one), *_, (many, most) = self.saturated
        said = (
            f"{many} replicas answer {most.measured / one.measured:.2f} times as much as {few}; the planner says "
            f"{most.predicted / one.predicted:.2f} times. "
        )
        bounded = [figure for figure in self.figures if figure.bound is not None]
        if self.missed:
            return said + f"{len(self.missed)} of {len(bounded)} predictions are off by MORE than what is stated."
        return said + f"All {len(bounded)} predictions are within what is stated."


def tables(scale: Scale) -> list[Table]:
    return [_throughput(scale), table("Every load", scale.figures), _rates(scale.load), _circumstances(scale)]


def write_measured(measured: Measurements, folder: Path) -> Measurements:
    """Write what `validate` reads; returns what is read back. Traces are named relative to the file."""
    path = folder / MEASURED
    raw = measured.model_dump(mode="json", exclude_unset=True)
    for point, each in zip(measured.points, raw["points"], strict=True):
        if point.trace is not None:
            each["trace"] = str(point.trace.relative_to(path.parent))
    path.write_text(json.dumps(raw, indent=1) + "\n")
    return read(path, Measurements)


def write(scale: Scale, folder: Path, what: str) -> Path:
    """scale_out.md, scale_out.json and the charts; returns the path of the first. `what` says what was measured."""
    facts = machine() | {"load average before the run": f"{scale.load_before:.1f}"}
    body = {"machine": facts, **_plain(scale)}
    (folder / f"{NAME}.json").write_text(json.dumps(body, indent=1) + "\n")
    lines = ["# Scale-out", "", what.strip(), "", f"`{scale.command}`: {scale.seconds / 60:.0f} minutes.", ""]
    lines += [scale.verdict, "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    for name, chart in charts(scale).items():
        (folder / name).write_text(chart)
        lines += [f"![{name.removesuffix('.svg')}]({name})", ""]
    lines += [each.section for each in tables(scale)]
    path = folder / f"{NAME}.md"
    path.write_text("\n".join(lines))
    return path


def charts(scale: Scale) -> dict[str, str]:
    """SVG by name of the file."""
    replicas = [0, *(number for number, _ in scale.saturated)]
    full = [figure for _, figure in scale.saturated]
    throughput = [
        Line("measured", replicas, [0, *(figure.measured for figure in full)]),
        Line("predicted", replicas, [0, *(figure.predicted for figure in full)], is_dashed=True),
    ]
    first: list[Line] = []
    for number in replicas[1:]:
        pairs = zip(scale.loads, scale.compared, strict=True)
        found = [(each, times[FIRST]) for each, times in pairs if each.point.replicas == number and each.share]
        shares = [100 * each.share for each, _ in found if each.share]
        first.append(Line(f"{number} measured", shares, [1e3 * time.measured for _, time in found]))
        first.append(Line(f"{number} predicted", shares, [1e3 * time.predicted for _, time in found], is_dashed=True))
    return {
        f"{NAME}_throughput.svg": line_chart("Every batch full", throughput, x="replicas", y="answers/s"),
        f"{NAME}_first.svg": line_chart(
            "Time to first token, p95, by replicas", first, x="% of what the replicas can do", y="ms"
        ),
    }


def _throughput(scale: Scale) -> Table:
    one = scale.saturated[0][1]
    rows = [
        (
            str(replicas),
            f"{each.measured:.2f}",
            f"{each.predicted:.2f}",
            f"{each.error:+.1%}",
            f"{each.measured / one.measured:.2f}",
            f"{each.predicted / one.predicted:.2f}",
        )
        for replicas, each in scale.saturated
    ]
    head = ("replicas", "answers/s", "predicted", "error", "times one replica", "predicted")
    return Table("Every batch full", head, rows)


def _rates(load: Load) -> Table:
    rates = load.rates
    rows = [(f"tokens/s of {rows} together", f"{rate:.1f}") for rows, rate in rates.units_per_second.items()]
    rows += [
        ("tokens/s of a prompt alone", f"{rates.prompt_units_per_second:.0f}"),
        ("what a request takes besides (ms)", f"{1e3 * rates.overhead_s:.1f}"),
        ("so requests/s of a full replica", f"{load.capacity:.2f}"),
    ]
    return Table("What was measured of one replica", ("rate", "measured"), rows)


def _circumstances(scale: Scale) -> Table:
    """Whether gateway or load generator were too busy to measure anything else, and how evenly replicas were asked."""
    roles = list(scale.loads[0].cpu)
    rows = [
        (
            each.point.label,
            f"{each.share:.0%}" if each.share else "more than all",
            *(f"{each.cpu[role]:.0%}" for role in roles),
            ", ".join(f"{count / sum(each.answered):.1%}" for count in each.answered),
        )
        for each in scale.loads
    ]
    head = ("load", "of what the replicas can do", *(f"CPU: {role}" for role in roles), "answers by replica")
    return Table("Who was how busy, in cores", head, rows)


def _plain(scale: Scale) -> dict[str, Any]:
    return {
        "command": scale.command,
        "seconds": scale.seconds,
        "rates": scale.load.rates.model_dump(mode="json", exclude_unset=True),
        "requests_per_second_of_a_replica": scale.load.capacity,
        "loads": [
            {
                "load": each.point.label,
                "replicas": each.point.replicas,
                "share": each.share,
                "cpu": dict(each.cpu),
                "answered": list(each.answered),
                "figures": [{**asdict(figure), "error": figure.error, "met": figure.is_met} for figure in found],
            }
            for each, found in zip(scale.loads, scale.compared, strict=True)
        ],
    }
