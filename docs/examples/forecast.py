"""Hold back the end of a series, have it told, and see how far off that was.

    .venv/bin/castalia up
    .venv/bin/pip install httpx
    .venv/bin/python docs/examples/forecast.py sales.csv --ahead 12

`sales.csv` has a header and two columns, a time (a number, or ISO 8601 such as 2024-03) and a value, in order of time.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import httpx

LEVELS = (0.05, 0.5, 0.95)


def main() -> None:
    options = arguments()
    times, values = read_series(options.file)
    shown, later = values[: -options.ahead], values[-options.ahead :]
    series = {"values": shown[-options.most :], "times": times[: -options.ahead][-options.most :]}
    forecast = ask(options, {"input": series, "times": times[-options.ahead :]})
    low, middle, high = (path["values"] for path in forecast["quantiles"])
    for row in zip(forecast["times"], low, middle, high, later, strict=True):
        print("{}: {:10.3f} {:10.3f} {:10.3f}   came {:10.3f}".format(*row))
    period = forecast["period"] or 1
    naive = (shown[-period:] * options.ahead)[: options.ahead]
    inside = sum(a <= x <= b for a, x, b in zip(low, later, high, strict=True))
    print(f"a season is {period} values; {inside} of {len(later)} lie in the middle 90 %")
    print(f"mean absolute error {error(middle, later):.3f}, of the value a season ago {error(naive, later):.3f}")


def ask(options: argparse.Namespace, body: dict[str, Any]) -> dict[str, Any]:
    """The forecast of one series. Raises SystemExit with what the gateway says it did not like."""
    body |= {"model": options.model, "quantiles": LEVELS, "samples": 200, "seed": options.seed}
    headers = {"authorization": f"Bearer {options.api_key}"}
    answer = httpx.post(f"{options.url}/v1/forecasts", json=body, headers=headers, timeout=120)
    if answer.is_error:
        raise SystemExit(answer.json()["error"]["message"])
    return answer.json()["data"][0]


def read_series(path: Path) -> tuple[list[float] | list[str], list[float]]:
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    times, values = zip(*((time, float(value)) for time, value in rows), strict=True)
    try:
        # A year alone is both; as a number it needs no calendar.
        return [float(time) for time in times], list(values)
    except ValueError:
        return list(times), list(values)


def error(told: list[float], came: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(told, came, strict=True)) / len(came)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hold back the end of a series, and have it told.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--ahead", type=int, default=12, help="values to hold back")
    parser.add_argument("--most", type=int, default=512, help="values to show at most")
    parser.add_argument("--model", default="forecast-lstm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key", default="none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
