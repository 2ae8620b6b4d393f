"""Line charts as SVG: that every point is where it should be, inside the chart, and that gaps are gaps."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from loadtests.charts import HEIGHT, WIDTH, Line, line_chart, nice_step, short

SVG = "{http://www.w3.org/2000/svg}"


def paths(chart: str) -> list[str]:
    """Those of the lines, without the grid and the legend."""
    every = ElementTree.fromstring(chart).iter(f"{SVG}path")
    return [each.attrib["d"] for each in every if "stroke-linejoin" in each.attrib]


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", path)]


def test_more_is_higher_and_later_is_further_right() -> None:
    (path,) = paths(line_chart("A chart", [Line("rate", [0, 1, 2], [0, 50, 100])], x="hours", y="requests/s"))
    left, low, middle, half, right, high = numbers(path)
    assert left < middle < right
    assert low > half > high
    assert half == pytest.approx((low + high) / 2)


def test_every_point_lies_inside() -> None:
    lines = [Line(f"line {number}", [0, 7, 31], [-3.0 * number, 1e6, 12]) for number in range(4)]
    for path in paths(line_chart("A chart", lines, x="x", y="y")):
        values = numbers(path)
        assert all(0 <= x <= WIDTH for x in values[::2])
        assert all(0 <= y <= HEIGHT for y in values[1::2])


def test_a_value_that_is_not_known_leaves_a_gap_and_a_step_holds_until_the_next() -> None:
    gap, step = paths(
        line_chart(
            "A chart",
            [Line("gap", [0, 1, 2, 3], [1, 2, math.nan, 3]), Line("step", [0, 1], [1, 3], is_stepped=True)],
            x="x",
            y="y",
        )
    )
    assert gap.count("M") == 2
    assert re.fullmatch(r"M[\d. ]+H[\d.]+V[\d.]+", step)


def test_names_are_escaped_and_the_chart_has_a_title_for_who_cannot_see_it() -> None:
    chart = ElementTree.fromstring(line_chart("a < b & c", [Line('"q" <', [0, 1], [1, 1])], x="x", y="y"))
    assert chart.findtext(f"{SVG}title") == "a < b & c"
    assert '"q" <' in [each.text for each in chart.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("span", "steps", "expected"),
    [(24, (1, 2, 3, 6), 6), (100, (1, 2, 5), 20), (0.7, (1, 2, 5), 0.2), (6, (1, 2, 5), 1), (7, (1, 2, 5), 2)],
)
def test_ticks_are_at_round_numbers(span: float, steps: tuple[float, ...], expected: float) -> None:
    assert nice_step(span, steps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (999, "999"), (12_000, "12k"), (2.5e6, "2.5M"), (-3e9, "-3G")]
)
def test_large_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_a_flat_line_and_a_single_point_can_be_drawn_and_nothing_cannot() -> None:
    assert paths(line_chart("A chart", [Line("flat", [0], [5])], x="x", y="y"))
    assert paths(line_chart("A chart", [Line("zero", [0, 1], [0, 0])], x="x", y="y"))
    with pytest.raises(ValueError, match="no point"):
        line_chart("A chart", [Line("none", [0], [math.nan])], x="x", y="y")
    with pytest.raises(ValueError, match="2 x and 1 y"):
        Line("odd", [0, 1], [1])
