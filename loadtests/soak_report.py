"""Owns a soak's report: tables, charts over time, and all samples as JSON. Never sees a process or a fleet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.charts import Line, line_chart
from loadtests.report import machine
from loadtests.saturated import Goal
from loadtests.soak_samples import Sample, Usage
from loadtests.soak_verdict import FLEET, Course, Level, Soak
from loadtests.tables import Row, Table

ROLES_DRAWN = 4  # those that have most, beside the whole fleet: more lines than that cannot be told apart
MIB = 2**20
READINGS: Mapping[str, tuple[str, Callable[[Usage], float]]] = {
    "memory": ("MiB", lambda usage: usage.memory / MIB),
    "descriptors": ("number", lambda usage: usage.descriptors),
    "threads": ("number", lambda usage: usage.threads),
}


def role_table(found: Sequence[Course]) -> Table:
    head = ("role", "memory, MiB", "growth", "files, pipes", "threads", "sockets at rest", "missed")
    return Table("By role, from the start of the load to its end", head, [_row(course) for course in found])


def goal_table(goals: Sequence[Goal]) -> Table:
    rows = [
        (each.name, f"{each.got:.4g}", f"{'≥' if each.is_least else '≤'} {each.bound:.4g}", "yes" if each.met else "no")
        for each in goals
    ]
    return Table("Requests, and what is left of them", ("figure", "got", "bound", "kept"), rows)


def charts(samples: Sequence[Sample]) -> dict[str, str]:
    """SVG by name of what it shows."""
    minutes = [sample.second / 60 for sample in samples]
    drawn = {name: _usage_chart(name, minutes, samples) for name in READINGS}
    work = [
        Line("rows running", minutes, [sample.work.running_rows for sample in samples]),
        Line("rows waiting", minutes, [sample.work.waiting_rows for sample in samples]),
        Line("requests open", minutes, [sample.work.requests for sample in samples]),
    ]
    return drawn | {"work": line_chart("Soak: work", work, x="minutes", y="number")}


def write(
    folder: Path, what: str, command: str, soak: Soak, found: Sequence[Course], goals: Sequence[Goal], seconds: float
) -> Path:
    """Write soak.md, soak.json and the charts; return the path of the first. `what` says what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = machine() | {
        "load": f"{soak.rate:.2f} requests/s for {soak.summary.seconds / 60:.0f} minutes",
        "the fleet holds": "not searched for" if soak.holds is None else f"{soak.holds:.2f} requests/s",
        "answered": f"{soak.summary.totals.answered} of {soak.summary.totals.sent}",
    }
    figures = {
        "command": command,
        "machine": facts,
        "seconds": seconds,
        "goals": [asdict(goal) | {"met": goal.met} for goal in goals],
        "courses": [asdict(course) for course in found],
        **{name: asdict(getattr(soak, name)) for name in ("before", "after")},
        "samples": [asdict(sample) for sample in soak.samples],
        "summary": soak.summary.model_dump(mode="json"),
    }
    (folder / "soak.json").write_text(json.dumps(figures) + "\n")
    missed = [goal.name for goal in goals if not goal.met]
    lines = ["# Soak", "", what.strip(), "", f"`{command}`: {seconds / 60:.0f} minutes with search and warm-up.", ""]
    lines += [*(f"- {key}: {value}" for key, value in facts.items()), ""]
    lines += [f"**Missed: {'; '.join(missed)}.**" if missed else "**All is kept.**", ""]
    of_roles = {goal.name for course in found for goal in course.goals}
    lines += [role_table(found).section, goal_table([goal for goal in goals if goal.name not in of_roles]).section]
    for name, svg in charts(soak.samples).items():
        (folder / f"soak-{name}.svg").write_text(svg)
        lines += [f"![{name}](soak-{name}.svg)", ""]
    path = folder / "soak.md"
    path.write_text("\n".join(lines))
    return path


def _row(course: Course) -> Row:
    levels = (course.files, course.threads, course.sockets)
    missed = [goal.name.removeprefix(f"{course.role}: ").split()[0] for goal in course.goals if not goal.met]
    growth = f"{course.growth / MIB:+.1f} MiB, {course.growth_share:+.1%}"
    return (course.role, f"{course.memory / MIB:.0f}", growth, *map(_level, levels), ", ".join(missed))


def _level(level: Level) -> str:
    return f"{level.start:g} → {level.end:g}"


def _usage_chart(name: str, minutes: Sequence[float], samples: Sequence[Sample]) -> str:
    unit, read = READINGS[name]
    lines = [Line(FLEET, minutes, [read(sample.fleet) for sample in samples])]
    roles = sorted(samples[-1].roles, key=lambda role: -read(samples[-1].roles[role]))
    for role in roles[:ROLES_DRAWN]:
        lines.append(Line(role, minutes, [read(sample.roles.get(role, Usage())) for sample in samples]))
    return line_chart(f"Soak: {name}", lines, x="minutes", y=unit)
