"""Owns what clients may ask of a latent ODE: what may follow a series, at times of their choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from services.families.neural_ode.series.model import SeriesConfig
from services.families.neural_ode.series.params import ForecastParams, Grid
from services.families.neural_ode.series.sampler import ForecastChunk
from services.families.neural_ode.series.scaling import ScaledSeries, scale_series
from services.nn.items import item_event
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.forecasts import Forecast, ForecastRequest, QuantilePath, Series


@dataclass(frozen=True, slots=True)
class ForecastTask:
    """Quantiles of `samples` paths of each series; a quantile is linear between the two paths next to it."""

    encodes_slowly: ClassVar[bool] = True

    model: str
    shape: SeriesConfig
    samples: int

    def prepare(self, request: ForecastRequest, salt: str = "") -> list[ForecastParams]:
        """Raises InvalidRequest: too few observations or too many, times not after the last, or too far from it."""
        samples = self.samples if request.samples is None else request.samples
        rows: list[ForecastParams] = []
        for i, series in enumerate(request.series):
            param = f"input[{i}]" if isinstance(request.input, list) else "input"
            self._check_points(series, param)
            clock = series.clock
            times = _times(request, clock)
            scaled = scale_series(clock, series.values)
            targets = self._targets(scaled, times, request, param)
            grid = Grid.of(targets, self.shape.max_step)
            seed = image_seed(request.seed, i)
            rows.append(ForecastParams(scaled, tuple(times), grid, request.quantiles, samples, seed))
        return rows

    def encode(self, chunk: ForecastChunk) -> Item:
        params = chunk.params
        return item_event(
            Forecast(
                index=0,
                times=list(params.times),
                mean=list(chunk.mean),
                quantiles=[
                    QuantilePath(level=level, values=list(values))
                    for level, values in zip(params.quantiles, chunk.quantiles, strict=True)
                ],
                samples=params.samples,
                seed=params.seed,
            )
        )

    def _check_points(self, series: Series, param: str) -> None:
        least, most, got = self.shape.min_points, self.shape.max_points, len(series.values)
        if not least <= got <= most:
            raise InvalidRequest(
                f"Model '{self.model}' reads {least} to {most} observations of a series; '{param}' has {got}.",
                param=f"{param}.values",
            )

    def _targets(
        self, scaled: ScaledSeries, times: Sequence[float], request: ForecastRequest, param: str
    ) -> list[float]:
        """In mean intervals after the last observation."""
        field = "horizon" if request.times is None else "times"
        targets = scaled.times_of(times)
        if any(b <= a for a, b in zip((0.0, *targets), targets, strict=False)):
            raise InvalidRequest(f"times must increase, from after the last time of '{param}'.", param=field)
        if targets[-1] > self.shape.horizon:
            raise InvalidRequest(
                f"Model '{self.model}' tells at most {self.shape.horizon:g} mean intervals of a series ahead: for "
                f"'{param}' {self.shape.horizon * scaled.gap:g}; got {times[-1] - scaled.last:g}.",
                param=field,
            )
        return targets


def _times(request: ForecastRequest, clock: Sequence[float]) -> list[float]:
    if request.times is not None:
        return list(request.times)
    interval = clock[-1] - clock[-2]
    return [clock[-1] + interval * (k + 1) for k in range(request.horizon or 0)]
