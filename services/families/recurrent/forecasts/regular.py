"""Owns what is regular about a series: that its intervals are equal, which later values times mean, its season."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta

import torch

from shared.errors import InvalidRequest
from shared.schemas.forecasts import ForecastRequest, Series, clock_of
from shared.schemas.timestamps import Interval, interval_of

_OFF = 0.1  # of an interval: how far a time may be from where regular ones would have it
_SEASONS_OF_MONTHS = {1: 12, 2: 6, 3: 4, 4: 3, 6: 2, 12: 1}
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
_LIKENESS, _RISE = 0.4, 0.2  # an autocorrelation that is a season's, and how far it must rise to it


def check_regular(series: Series, param: str, model: str) -> None:
    """Raises InvalidRequest where the intervals of two times or more differ."""
    clock = series.clock
    gap = (clock[-1] - clock[0]) / (len(clock) - 1)
    off = max(abs(time - clock[0] - i * gap) for i, time in enumerate(clock)) / gap
    if off <= _OFF or (series.timestamps is not None and interval_of(series.timestamps) is not None):
        return
    gaps = [b - a for a, b in itertools.pairwise(clock)]
    unit = " days" if series.timestamps is not None else ""
    raise InvalidRequest(
        f"Model '{model}' takes regular series alone; the intervals of '{param}.times' are from {min(gaps):g} to "
        f"{max(gaps):g}{unit}. Leave times out to have the values taken as equally spaced.",
        param=f"{param}.times",
        code="irregular_times",
    )


def steps_told(request: ForecastRequest, series: Series, param: str, model: str, farthest: int) -> tuple[int, ...]:
    """Which of the next values are asked for, 1 being the next. Raises InvalidRequest: none of them, or too far."""
    if request.times is None:
        horizon = request.horizon or 0
        if horizon > farthest:
            _refuse_far("horizon", horizon, param, model, farthest)
        return tuple(range(1, horizon + 1))
    wanted = clock_of(request.times)
    if any(b <= a for a, b in zip((series.clock[-1], *wanted), wanted, strict=False)):
        raise InvalidRequest(f"times must increase, from after the last time of '{param}'.", param="times")
    later = clock_of(series.following(farthest, even=True))
    gap = (later[-1] - series.clock[-1]) / farthest
    if wanted[-1] > later[-1] + _OFF * gap:
        _refuse_far("times", round((wanted[-1] - series.clock[-1]) / gap), param, model, farthest)
    near = (torch.tensor(later)[None] - torch.tensor(wanted)[:, None]).abs().min(dim=1)
    if bool((near.values > _OFF * gap).any()):
        raise InvalidRequest(
            f"Model '{model}' tells values at the intervals of '{param}'; times must be among those that follow.",
            param="times",
            code="irregular_times",
        )
    return tuple(int(i) + 1 for i in near.indices)


def _refuse_far(field: str, got: int, param: str, model: str, farthest: int) -> None:
    raise InvalidRequest(
        f"Model '{model}' tells at most {farthest} values after '{param}'; got {got} to tell.", param=field
    )


def season_of(series: Series, param: str, model: str, longest: int) -> int:
    """How many values a season has: as the client says, as its calendar says, or as the values themselves do.

    Raises InvalidRequest for a period that is too long for the model, or for the series.
    """
    count = len(series.values)
    if series.period is not None:
        if series.period > min(longest, count - 1):
            raise InvalidRequest(
                f"period may be at most {longest} for model '{model}', and must be below the number of values "
                f"({count}); got {series.period}.",
                param=f"{param}.period",
            )
        return series.period
    interval = None if series.timestamps is None else interval_of(series.timestamps)
    usual = None if interval is None else usual_season(interval)
    if usual is not None and usual <= min(longest, count // 2):
        return usual
    return estimated_season(series.values, longest)


def usual_season(interval: Interval) -> int | None:
    """Values of a year if the interval is months or a week, of a week if it is a day, of a day if it divides one."""
    if interval.months:
        return _SEASONS_OF_MONTHS.get(interval.months, 1)
    if interval.length == _WEEK:
        return 52
    if interval.length == _DAY:
        return 7
    if interval.length < _DAY and not _DAY % interval.length:
        return _DAY // interval.length
    return None


def estimated_season(values: Sequence[float], longest: int) -> int:
    """The first lag at which the series, less a straight line, is nearly as like itself as it ever is again; or 1.

    That likeness, an autocorrelation, must be over 0.4, and have risen by 0.2 since a lag before.
    """
    series = torch.tensor(values, dtype=torch.float64)
    at = torch.linspace(-1, 1, len(series), dtype=torch.float64)
    series = series - series.mean()
    series = series - at * (series @ at) / (at @ at)
    lags = range(1, min(longest, len(series) // 2) + 1)
    power = series.square().mean()
    if power <= 0 or len(lags) < 3:
        return 1
    likeness = [float((series[lag:] * series[:-lag]).mean() / power) for lag in lags]
    lowest, peaks = likeness[0], dict[int, float]()
    for lag, (before, here, after) in enumerate(zip(likeness, likeness[1:], likeness[2:], strict=False), start=2):
        lowest = min(lowest, here)
        if here >= max(before, after, _LIKENESS) and here >= lowest + _RISE:
            peaks[lag] = here
    first = next((lag for lag, peak in peaks.items() if peak >= 0.9 * max(peaks.values())), 1)
    # Noise makes peaks beside the season's own.
    return max((lag for lag in peaks if first <= lag < 1.25 * first), key=lambda lag: peaks[lag], default=1)
