"""Owns steps of explicit Runge-Kutta methods, every row at its own time with its own step. Never sees a network.

The grid is fixed: a step size that followed an error norm of the batch would let batch-mates change a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

# The right-hand side dx/dt: x (B, ...), each row's time (B,) -> (B, ...).
Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Method:
    """A Butcher tableau (Butcher 1963): slope i is taken `at[i]` of the step on, at x + h * sum_j inner[i][j] slope_j.

    The step is h * sum_i outer[i] slope_i; its global error is O(h^order).
    """

    order: int
    at: tuple[float, ...]
    inner: tuple[tuple[float, ...], ...]
    outer: tuple[float, ...]

    @property
    def evaluations(self) -> int:
        """Of the field, in one step."""
        return len(self.at)


METHODS: Mapping[str, Method] = {
    "euler": Method(1, (0.0,), ((),), (1.0,)),
    "midpoint": Method(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    # Kutta's 3/8 rule: its error is smaller than the better known method's.
    "rk4": Method(
        4,
        at=(0.0, 1 / 3, 2 / 3, 1.0),
        inner=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        outer=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    ),
}


def take_step(field: Field, x: Tensor, time: Tensor, width: Tensor, method: Method) -> Tensor:
    """x (B, ...) at `time` (B,) -> x at `time + width`, of each row; a negative width goes back in time."""
    h = width.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
    slopes: list[Tensor] = []
    for at, inner in zip(method.at, method.inner, strict=True):
        slopes.append(field(_moved(x, h, inner, slopes), time + at * width))
    return _moved(x, h, method.outer, slopes)


def _moved(x: Tensor, h: Tensor, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x + weight * h * slope
    return x


def solve(field: Field, x: Tensor, start: float, end: float, *, steps: int, method: Method) -> Tensor:
    """x (B, ...) from time `start` to `end` in equal steps."""
    width = x.new_full((len(x),), (end - start) / steps)
    for i in range(steps):
        x = take_step(field, x, x.new_full((len(x),), start + (end - start) * i / steps), width, method)
    return x
