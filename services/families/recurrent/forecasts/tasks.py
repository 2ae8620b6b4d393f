"""Owns what clients may ask of a forecaster: what may follow a regular series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.families.recurrent.forecasts.model import ForecastConfig
from services.families.recurrent.forecasts.params import ForecastParams
from services.families.recurrent.forecasts.regular import check_regular, season_of, steps_told
from services.families.recurrent.forecasts.sampler import ForecastChunk
from services.families.recurrent.forecasts.scaling import scale_series
from services.nn.forecasts import check_points, forecast_event, times_told
from services.nn.rng import image_seed
from shared.events import Item
from shared.schemas.forecasts import ForecastRequest


@dataclass(frozen=True, slots=True)
class ForecastTask:
    """Quantiles of `samples` paths of each series; a quantile is linear between the two paths next to it."""

    encodes_slowly: ClassVar[bool] = True

    model: str
    shape: ForecastConfig
    samples: int

    def prepare(self, request: ForecastRequest, salt: str = "") -> list[ForecastParams]:
        """Raises InvalidRequest: too few values or too many, irregular times, times that are too far, a long period."""
        samples = self.samples if request.samples is None else request.samples
        rows: list[ForecastParams] = []
        for i, series in enumerate(request.series):
            param = f"input[{i}]" if isinstance(request.input, list) else "input"
            check_points(series, param, self.model, self.shape.min_points, self.shape.max_points)
            check_regular(series, param, self.model)
            steps = steps_told(request, series, param, self.model, self.shape.horizon)
            season = season_of(series, param, self.model, self.shape.max_season)
            scaled, times = scale_series(series.values, season), times_told(request, series, even=True)
            seed = image_seed(request.seed, i)
            rows.append(ForecastParams(scaled, steps, times, request.quantiles, samples, seed))
        return rows

    def encode(self, chunk: ForecastChunk) -> Item:
        params = chunk.params
        return forecast_event(
            params.times,
            chunk.mean,
            list(zip(params.quantiles, chunk.quantiles, strict=True)),
            samples=params.samples,
            seed=params.seed,
            period=params.series.season,
        )
