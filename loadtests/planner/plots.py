"""Owns the charts of a plan's report: replicas and devices beside the demand, and what became of requests."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.charts import Line, line_chart
from loadtests.planner.outcome import shares
from loadtests.planner.results import Fixed, Result

CLOCK_STEPS = (1, 2, 3, 6)


def charts(result: Result) -> dict[str, str]:
    """SVG by name of the file."""
    run, service = result.simulation, result.service
    each, ledger = run.course, run.ledger
    starts = range(0, run.traffic.seconds, each.bin_s)
    spans = [min(each.bin_s, run.traffic.seconds - start) for start in starts]
    unit, unit_s = ("hours", 3600) if run.traffic.seconds > 3 * 3600 else ("minutes", 60)
    ends = [start / unit_s for start in (*starts, run.traffic.seconds)]

    def line(name: str, values: Sequence[float], **style: bool) -> Line:
        return Line(name, ends, [*values, values[-1]], **style)

    def mean(sums: Sequence[float]) -> list[float]:
        return [total / span for total, span in zip(sums, spans, strict=True)]

    replicas, devices = mean(each.replica_s), mean(each.device_s)
    worth = [rate / service.capacity for rate in mean(each.requests)]
    lines = [line("replicas", replicas, is_stepped=True), line("what the requests take of full ones", worth)]
    if replicas != devices:
        lines.append(line("devices", devices, is_stepped=True))
    if isinstance(result.fixed, Fixed):
        lines.append(line("fixed fleet, replicas", [result.fixed.found.replicas] * len(spans), is_dashed=True))
    quality = [
        line(name, [100 * share for share in shares(over, ledger.answered, ledger.refused)], is_stepped=True)
        for name, over in (("objectives kept", ledger.good), ("refused", ledger.refused))
    ]
    quality.append(line("promised", [100 * service.objectives.attainment] * len(spans), is_dashed=True))
    name = service.name
    return {
        f"{name}-replicas.svg": line_chart(
            f"{name}: replicas and demand", lines, x=unit, y="number", x_steps=CLOCK_STEPS
        ),
        f"{name}-objectives.svg": line_chart(
            f"{name}: what became of requests", quality, x=unit, y="% of requests", x_steps=CLOCK_STEPS
        ),
    }
