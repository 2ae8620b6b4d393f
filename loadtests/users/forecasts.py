"""Owns the programs that ask what may follow a series: regular ones with a season, a trend and noise."""

from __future__ import annotations

import math
from random import Random
from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.lists import ask_for_list
from shared.schemas.forecasts import ForecastRequest, Series

POINTS = 48
HORIZON = (1, 8)
SEASONS = (4, 7, 12)
MOST = 4


class Forecast(Modality):
    task: ClassVar[str] = "forecast"
    path: ClassVar[str] = "/v1/forecasts"
    piece: ClassVar[str] = "forecast"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        series = [a_series(wish.rng) for _ in range(wish.rng.randint(1, MOST))]
        horizon = wish.rng.randint(*HORIZON)
        return ask_for_list(
            ForecastRequest(model=wish.target.model, input=series, horizon=horizon, stream=wish.streams())
        )


def a_series(rng: Random) -> Series:
    season, slope, height = rng.choice(SEASONS), rng.uniform(-0.1, 0.1), rng.uniform(0.5, 2.0)
    values = [
        round(10 + slope * i + height * math.sin(2 * math.pi * i / season) + rng.gauss(0, 0.2), 3)
        for i in range(POINTS)
    ]
    return Series(values=values)


class ForecastUser(LoadUser):
    asks_for = Forecast.task
