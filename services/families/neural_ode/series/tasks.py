"""Owns what clients may ask of a latent ODE: what may follow a series, at times of their choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from services.families.neural_ode.series.model import SeriesConfig
from services.families.neural_ode.series.params import ForecastParams, Grid
from services.families.neural_ode.series.sampler import ForecastChunk
from services.families.neural_ode.series.scaling import ScaledSeries, scale_series
from services.nn.forecasts import check_points, forecast_event, times_told
from services.nn.rng import image_seed
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.forecasts import ForecastRequest, Series, clock_of


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
            check_points(series, param, self.model, self.shape.min_points, self.shape.max_points)
            self._check_period(series, param)
            scaled, times = scale_series(series.clock, series.values), times_told(request, series)
            grid = Grid.of(self._targets(scaled, clock_of(times), request, param), self.shape.max_step)
            seed = image_seed(request.seed, i)
            rows.append(ForecastParams(scaled, times, grid, request.quantiles, samples, seed))
        return rows

    def encode(self, chunk: ForecastChunk) -> Item:
        params = chunk.params
        quantiles = list(zip(params.quantiles, chunk.quantiles, strict=True))
        return forecast_event(params.times, chunk.mean, quantiles, samples=params.samples, seed=params.seed)

    def _check_period(self, series: Series, param: str) -> None:
        if series.period is not None:
            raise InvalidRequest(
                f"Model '{self.model}' finds a season by itself and takes no period; got {series.period}.",
                param=f"{param}.period",
                code="unsupported_parameter",
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
