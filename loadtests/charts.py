"""Owns line charts as SVG, by the standard library alone: for reports, beside their tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 64, 46
TICKS = 6
# Okabe and Ito's colours, which the colour-blind tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
PREFIXES = {1e9: "G", 1e6: "M", 1e3: "k"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points from left to right. A point whose y is not finite leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    is_stepped: bool = False  # a value holds until the next point
    is_dashed: bool = False

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"line {self.name!r} has {len(self.x)} x and {len(self.y)} y")


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float  # pixels
    end: float
    ticks: Sequence[float]

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)


def line_chart(title: str, lines: Sequence[Line], *, x: str, y: str, x_steps: Sequence[float] = (1, 2, 5)) -> str:
    """A chart as SVG text. `x` and `y` name the axes; ticks are at multiples of a power of ten times an `x_steps`."""
    xs = [value for line in lines for value in line.x]
    ys = [value for line in lines for value in line.y if math.isfinite(value)]
    if not xs or not ys:
        raise ValueError(f"chart {title!r} has no point")
    across = _axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, x_steps, is_tight=True)
    up = _axis(min(0.0, *ys), max(ys), HEIGHT - BOTTOM, TOP, (1, 2, 5), is_tight=False)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT, 22, title, 'font-size="15" font-weight="bold"'),
        *_grid(across, up),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x, 'text-anchor="middle"'),
        _text(0, 0, y, f'text-anchor="middle" transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:g}) rotate(-90)"'),
        *_drawn(lines, across, up),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def nice_step(span: float, steps: Sequence[float], ticks: int = TICKS) -> float:
    """The least step of a round number that needs no more than about so many ticks (Heckbert, Graphics Gems, 1990)."""
    rough = span / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for scale in (power, 10 * power) for each in steps if (step := scale * each) >= rough * 0.999)


def short(value: float) -> str:
    """12000 as 12k."""
    for size, prefix in PREFIXES.items():
        if abs(value) >= size:
            return f"{value / size:.4g}{prefix}"
    return f"{value:.4g}"


def _axis(low: float, high: float, start: float, end: float, steps: Sequence[float], *, is_tight: bool) -> _Axis:
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = nice_step(high - low, steps)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if not is_tight:  # the axis ends with a tick
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        low, high = first * step, last * step
    return _Axis(low, high, start, end, [number * step for number in range(first, last + 1)])


def _grid(across: _Axis, up: _Axis) -> Iterator[str]:
    for tick in up.ticks:
        at = up.at(tick)
        yield f'<path d="M{across.start:g} {at:.1f}H{across.end:g}" stroke="#ddd"/>'
        yield _text(across.start - 8, at + 4, short(tick), 'text-anchor="end"')
    for tick in across.ticks:
        at = across.at(tick)
        yield f'<path d="M{at:.1f} {up.start:g}v5" stroke="#333"/>'
        yield _text(at, up.start + 20, short(tick), 'text-anchor="middle"')
    yield f'<path d="M{across.start:g} {up.start:g}H{across.end:g}" stroke="#333"/>'


def _drawn(lines: Sequence[Line], across: _Axis, up: _Axis) -> Iterator[str]:
    legend_at = float(LEFT)
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        dashes = ' stroke-dasharray="6 4"' if line.is_dashed else ""
        style = f'stroke="{colour}" stroke-width="2" fill="none"{dashes}'
        yield f'<path d="{_path(line, across, up)}" {style} stroke-linejoin="round"/>'
        yield f'<path d="M{legend_at:g} 42h22" {style}/>'
        yield _text(legend_at + 28, 46, line.name)
        legend_at += 28 + 7 * len(line.name) + 24


def _path(line: Line, across: _Axis, up: _Axis) -> str:
    path: list[str] = []
    is_open = False
    for x, y in zip(line.x, line.y, strict=True):
        if not math.isfinite(y):
            is_open = False
            continue
        at = f"{across.at(x):.1f} {up.at(y):.1f}"
        if not is_open:
            path.append(f"M{at}")
        elif line.is_stepped:
            path.append(f"H{across.at(x):.1f}V{up.at(y):.1f}")
        else:
            path.append(f"L{at}")
        is_open = True
    return "".join(path)


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.5g}" y="{y:.5g}" fill="#333" {style}>{escape(text)}</text>'
