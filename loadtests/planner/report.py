"""Owns a plan's report: its tables for the terminal, and all of it as Markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.planner import thinning
from loadtests.planner.outcome import ratio
from loadtests.planner.plan import Plan, Service
from loadtests.planner.plots import charts
from loadtests.planner.results import ATTAINMENT_ERROR, DEVICE_HOURS_ERROR, TIME_ERROR, Fixed, Result
from loadtests.planner.search import Found
from loadtests.tables import Row, Table

ROWS = 24  # of the table of a plan's course
FIXED, FIXED_COST, OVER_FIXED = (
    "a fixed fleet for the busiest minute: replicas",
    "its device-hours, cost",
    "device-hours over its",
)


def overview(results: Sequence[Result]) -> Table:
    head = ("", *(result.service.name for result in results))
    columns = [list(_overview_of(result)) for result in results]
    rows = [(lines[0][0], *(value for _, value in lines)) for lines in zip(*columns, strict=True)]
    return Table("What it comes to", head, rows)


def _overview_of(result: Result) -> Iterator[tuple[str, str]]:
    found, service = result.figures, result.service
    yield "requests", amount(found.requests)
    yield "requests/s: mean, busiest minute", f"{amount(result.traffic.rates.mean())}, {amount(result.traffic.peak())}"
    yield "requests/s of a full replica", f"{service.capacity:.3g}"
    yield "replicas: mean, most", f"{found.replicas_mean:,.1f}, {found.replicas_most:,}"
    yield "devices: most", f"{found.devices_most:,.0f}"
    yield "device-hours", f"{found.device_hours:,.1f}"
    yield "cost", money(found.cost)
    yield "promised, in seconds", promise(service)
    yield "requests that kept it", f"{found.attainment:.2%}"
    yield "share of the time in which enough of them did", f"{found.kept:.1%}"
    yield "refused", f"{found.refused:.2%}"
    for name, label in (("wait_s", "wait"), ("time_to_first_s", "time to first"), ("end_to_end_s", "end to end")):
        yield f"{label}: p50, p95, p99 (s)", ", ".join(f"{value:.3g}" for value in found.times[name].values())
    fixed = result.fixed
    if isinstance(fixed, Fixed):
        yield FIXED, f"{fixed.found.replicas:,}"
        yield FIXED_COST, f"{fixed.device_hours:,.1f}, {money(fixed.cost)}"
        yield OVER_FIXED, f"{ratio(found.device_hours, fixed.device_hours):.0%}"
    else:
        yield FIXED, "none"
        yield FIXED_COST, "-"
        yield OVER_FIXED, "-"


def course(result: Result) -> Table:
    """The forecast's course, in rows of some bins each."""
    run, service = result.simulation, result.service
    each = run.course
    per_row = math.ceil(len(each.requests) / ROWS)
    rows: list[Row] = []
    for at in range(0, len(each.requests), per_row):
        bins = slice(at, at + per_row)
        seconds = min(run.traffic.seconds, (at + per_row) * each.bin_s) - at * each.bin_s
        rate = sum(each.requests[bins]) / seconds
        answered, refused, good = (sum(of[bins]) for of in (run.ledger.answered, run.ledger.refused, run.ledger.good))
        rows.append(
            (
                f"{at * each.bin_s / 3600:.2f}",
                amount(rate),
                f"{rate / service.capacity:,.1f}",
                f"{sum(each.replica_s[bins]) / seconds:,.1f}",
                f"{max(each.most_replicas[bins]):,}",
                f"{sum(each.device_s[bins]) / seconds:,.1f}",
                share(good, answered + refused),
                share(refused, answered + refused),
            )
        )
    head = (
        "from hour",
        "requests/s",
        "in full replicas",
        "replicas",
        "most",
        "devices",
        "objectives kept",
        "refused",
    )
    return Table(f"{service.name}: its course", head, rows)


def notes(result: Result) -> list[str]:
    """How it was simulated, and how far that may be wrong."""
    thin, run, gap = result.thinning, result.figures, result.difference
    if thin.is_exact:
        how = f"Every one of the {run.simulated:,} requests was simulated."
    else:
        parts = [f"of one in {thin.factor:,.3g} replicas, {thin.least} at least"] if thin.factor > 1 else []
        if max(thin.stretch) > 1:
            parts.append(f"of one in {max(thin.stretch):.3g} seconds of calm times")
        how = f"{run.simulated:,} requests were simulated: those {', and '.join(parts)}."
    other = "Thinned twice as much" if gap.is_of_thinning else "With other draws"
    said = (
        f"{other}: device-hours {gap.device_hours:+.1%}, objectives kept {100 * gap.attainment:+.2f} points, "
        f"p95 of the time to first {gap.time_to_first_p95:+.1%}"
    )
    stated = f"{DEVICE_HOURS_ERROR:.0%}, {100 * ATTAINMENT_ERROR:g} points, {TIME_ERROR:.0%}"
    verdict = f"within what is stated ({stated})" if gap.is_small else f"MORE than what is stated ({stated})"
    found = [f"{how} {said}: {verdict}. It took {result.seconds:.0f} s."]
    if isinstance(result.fixed, str):
        found.append(f"No fixed fleet for the busiest minute: {result.fixed}")
    return found


def for_rate(found: dict[str, Found]) -> Table:
    head = (
        "service",
        "requests/s",
        "replicas",
        "busy",
        "objectives kept",
        "refused",
        "first, p95 (s)",
        "whole, p95 (s)",
    )
    rows = [
        (
            name,
            amount(each.per_second),
            f"{each.replicas:,}",
            f"{each.busy:.0%}",
            f"{each.attainment:.2%}",
            f"{each.refused:.2%}",
            f"{each.time_to_first_p95_s:.3g}",
            f"{each.end_to_end_p95_s:.3g}",
        )
        for name, each in found.items()
    ]
    return Table("The fewest replicas for a constant rate", head, rows)


def write(plan: Plan, results: Sequence[Result], folder: Path) -> Path:
    """plan.md, plan.json and the charts; returns the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {plan.name}", "", f"{plan.hours:g} h of traffic, simulated by `python -m loadtests.planner`.", ""]
    lines += [thinning_notes(), "", overview(results).section]
    for result in results:
        table = course(result)
        lines += [f"## {result.service.name}", "", *notes(result), ""]
        for name, chart in charts(result).items():
            (folder / name).write_text(chart)
            lines += [f"![{name.removesuffix('.svg')}]({name})", ""]
        lines += [table.markdown, ""]
    (folder / "plan.json").write_text(json.dumps({"name": plan.name, **_plain(results)}, indent=1) + "\n")
    path = folder / "plan.md"
    path.write_text("\n".join(lines))
    return path


def thinning_notes() -> str:
    assert thinning.__doc__ is not None
    return thinning.__doc__.partition("\n\n")[2].strip()


def _plain(results: Sequence[Result]) -> dict[str, Any]:
    """nan, of a share of nothing, is null."""
    services = {
        result.service.name: {
            "figures": asdict(result.figures),
            "difference": asdict(result.difference),
            "fixed": asdict(result.fixed) if isinstance(result.fixed, Fixed) else result.fixed,
            "course": asdict(result.simulation.course),
            "answered": result.simulation.ledger.answered,
            "good": result.simulation.ledger.good,
            "refused": result.simulation.ledger.refused,
            "plan": result.service.model_dump(mode="json", exclude_unset=True),
        }
        for result in results
    }
    return {"services": json.loads(json.dumps(services), parse_constant=lambda _: None)}


def promise(service: Service) -> str:
    wanted = service.objectives
    pairs = (
        ("wait", wanted.wait_s),
        ("first", wanted.time_to_first_s),
        ("whole", wanted.end_to_end_s),
    )
    said = ", ".join(f"{name} {seconds:g}" for name, seconds in pairs if seconds is not None)
    return f"{said} for {100 * wanted.attainment:g}%"


def share(over: float, under: float) -> str:
    return f"{over / under:.2%}" if under else "-"


def amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def money(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:,.2f}" if cost < 100 else f"{cost:,.0f}"
