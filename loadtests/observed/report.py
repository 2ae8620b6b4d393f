"""Owns the report of what was observed: dashboards, rules, the trace, as Markdown and as JSON. Never sees a fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.observed.collector import Span
from loadtests.observed.trace import ROLES, Asked
from loadtests.observed.trouble import Troubles
from loadtests.observed.verdict import Standing
from loadtests.report import machine
from loadtests.saturated import Goal, plain
from loadtests.summary import Summary
from loadtests.tables import Row, Table


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording rule, the error of its last evaluation, and in how many lines it has data."""

    name: str
    error: str
    lines: int

    @property
    def fault(self) -> str:
        return self.error or ("" if self.lines else "has no data")


@dataclass(frozen=True, slots=True)
class Observation:
    """All that was seen. `spans` are of the chat, by what each stands for; `traces` is how many came in all."""

    prometheus: str  # its version
    summary: Summary
    troubles: Troubles
    standings: Sequence[Standing]
    recorded: Sequence[Recorded]
    asked: Asked
    spans: Mapping[str, Span]
    traces: int
    goals: Sequence[Goal]
    faults: Sequence[str]  # what is missing or wrong beside missed goals

    @property
    def missing(self) -> list[str]:
        missed = [f"{goal.name}: {goal.got:.4g}, {goal.limit}" for goal in self.goals if not goal.met]
        return [*self.faults, *missed]


def tables(seen: Observation) -> list[Table]:
    figures = [goal.row(".4g") for goal in seen.goals]
    return [
        _dashboards(seen.standings),
        _trace(seen),
        Table("Figures", ("figure", "got", "bound", "met"), figures),
        _targets("Queries that have no data here, or of some alone", [each for each in seen.standings if each.reason]),
        _targets("Queries that have data of all", [each for each in seen.standings if not each.reason]),
        Table(
            "Recording rules",
            ("rule", "lines", "fault"),
            [(each.name, str(each.lines), each.fault) for each in seen.recorded],
        ),
    ]


def write(folder: Path, what: str, command: str, seen: Observation, seconds: float) -> Path:
    """Write observed.md and observed.json; return the path of the first. `what` says what was looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    totals = seen.summary.totals
    facts: dict[str, Any] = machine() | {
        "prometheus": seen.prometheus,
        "load": f"{seen.summary.offered_per_second:.2f} requests/s for {seen.summary.seconds / 60:.1f} minutes",
        "answered": f"{totals.answered} of {totals.sent}",
        "asked beside them": ", ".join(
            f"{count} x {status}" for status, count in sorted(seen.troubles.statuses.items())
        ),
        "streams given up, and cut at their deadline": f"{seen.troubles.given_up}, {seen.troubles.cut}",
        "traces at the collector": f"{seen.traces}, of a tenth of the requests",
    }
    figures = {
        "command": command,
        "machine": facts,
        "seconds": seconds,
        "missing": seen.missing,
        "goals": [asdict(goal) | {"met": goal.met} for goal in seen.goals],
        "targets": [_figures(each) for each in seen.standings],
        "rules": [asdict(each) for each in seen.recorded],
        "asked": asdict(seen.asked),
        "trace": {name: asdict(span) for name, span in seen.spans.items()},
        "troubles": plain(seen.troubles),
        "summary": seen.summary.model_dump(mode="json"),
    }
    (folder / "observed.json").write_text(json.dumps(figures) + "\n")
    lines = ["# Observed", "", what.strip(), "", f"`{command}`: {seconds / 60:.0f} minutes.", ""]
    lines += [*(f"- {key}: {value}" for key, value in facts.items()), ""]
    lines += [f"**Missing: {'; '.join(seen.missing)}.**" if seen.missing else "**Nothing is missing.**", ""]
    lines += [table.section for table in tables(seen)]
    path = folder / "observed.md"
    path.write_text("\n".join(lines))
    return path


def _figures(standing: Standing) -> dict[str, Any]:
    return {
        "target": standing.target,
        "lines": {answer.value: answer.lines for answer in standing.answers},
        "reason": standing.reason,
        "fault": standing.fault,
    }


def _dashboards(standings: Sequence[Standing]) -> Table:
    rows: list[Row] = []
    for name in dict.fromkeys(each.dashboard for each in standings):
        own = [each for each in standings if each.dashboard == name]
        asked = sum(len(each.answers) for each in own)
        got = sum(each.with_data for each in own)
        some, none = sum(bool(each.with_data) for each in own), sum(not each.with_data for each in own)
        wrong = sum(bool(each.fault) for each in own)
        rows.append((name, str(len(own)), str(some), str(none), f"{got} of {asked}", str(wrong)))
    head = ("dashboard", "queries", "with data", "without", "asked of each model, service, tenant, with data", "wrong")
    return Table("Dashboards", head, rows)


def _targets(title: str, standings: Sequence[Standing]) -> Table:
    rows = [
        (each.target, f"{each.with_data} of {len(each.answers)}", str(each.lines), each.reason, each.fault)
        for each in standings
    ]
    return Table(title, ("query", "asked, with data", "lines at most", "why", "fault"), rows)


def _trace(seen: Observation) -> Table:
    rows: list[Row] = [
        ("client", "", "", "0.0", f"{1e3 * seen.asked.whole_s:.1f}"),
        ("client, to the first text", "", "", "0.0", f"{1e3 * seen.asked.first_s:.1f}"),
    ]
    for name, span in seen.spans.items():
        begins = 1e3 * (span.began - seen.asked.sent)
        rows.append((name, span.service, ROLES[name].parent, f"{begins:.1f}", f"{1e3 * span.seconds:.1f}"))
    return Table(
        f"A streamed chat of {seen.asked.tokens} tokens", ("span", "process", "parent", "begins, ms", "ms"), rows
    )
