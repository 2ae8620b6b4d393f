"""Owns forecasts at the border of a family: when they are told, and from draws to the event of an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from services.nn.items import item_event
from shared.errors import InvalidRequest
from shared.events import Item
from shared.schemas.forecasts import Forecast, ForecastRequest, QuantilePath, Series

Times = tuple[float | str, ...]  # as the client writes them


def times_told(request: ForecastRequest, series: Series, *, even: bool = False) -> Times:
    """When a series of two values or more is told; `even` as of `Series.following`.

    Raises InvalidRequest: that would be beyond the year 9999.
    """
    if request.times is not None:
        return tuple(request.times)
    try:
        return tuple(series.following(request.horizon or 0, even=even))
    except (OverflowError, ValueError) as error:
        message = f"horizon must end before the year 10000; got {request.horizon}."
        raise InvalidRequest(message, param="horizon") from error


def check_points(series: Series, param: str, model: str, least: int, most: int) -> None:
    """Raises InvalidRequest: fewer or more observations than the model reads."""
    got = len(series.values)
    if not least <= got <= most:
        raise InvalidRequest(
            f"Model '{model}' reads {least} to {most} observations of a series; '{param}' has {got}.",
            param=f"{param}.values",
        )


def quantiles_of(drawn: Tensor, levels: Sequence[float]) -> Tensor:
    """float64 (Q, T) of draws (T, S): each is linear between the two draws next to it."""
    return torch.quantile(drawn.double().cpu(), torch.tensor(levels, dtype=torch.float64), dim=1)


def forecast_event(
    times: Times,
    mean: Sequence[float],
    quantiles: Sequence[tuple[float, Sequence[float]]],
    *,
    samples: int,
    seed: int,
    period: int | None = None,
) -> Item:
    """`quantiles`: a level and its values at each time."""
    paths = [QuantilePath(level=level, values=list(values)) for level, values in quantiles]
    return item_event(
        Forecast(
            index=0,
            times=list(times),
            mean=list(mean),
            quantiles=paths,
            period=period,
            samples=samples,
            seed=seed,
        )
    )
