"""A small table of records whose columns have to do with each other, and its parts as training reads them."""

from __future__ import annotations

from pathlib import Path

import torch

from services.training.record_data import Draft, RecordSplit, read_record_split, write_record_split
from shared.schemas.items import Value

TOWNS = ("north", "south", "east, or west")
OUTCOME = "ill"
DRAFTS = (
    Draft("age", "years"),
    Draft("height", "in metres", decimals=2),
    Draft("visits", "none for most"),
    Draft("smokes", "1 yes", (0, 1)),
    Draft("town", "where they live", TOWNS),
    Draft(OUTCOME, "1 yes", (0, 1)),
)


def make_records(count: int, seed: int = 0) -> list[dict[str, Value]]:
    """The old smoke, the tall live in the north, and smokers who are old are ill."""
    draws = torch.Generator().manual_seed(seed)

    def record() -> dict[str, Value]:
        age = int(torch.randint(18, 90, (), generator=draws))
        height = round(1.7 + 0.1 * float(torch.randn((), generator=draws)), 2)
        smokes = int(float(torch.rand((), generator=draws)) < age / 100)
        visits = 0 if float(torch.rand((), generator=draws)) < 0.6 else int(torch.randint(1, 40, (), generator=draws))
        town = "north" if height > 1.72 else TOWNS[1 + int(torch.randint(2, (), generator=draws))]
        ill = int(smokes == 1 and age + 10 * float(torch.randn((), generator=draws)) > 55)
        return {"age": age, "height": height, "visits": visits, "smokes": smokes, "town": town, OUTCOME: ill}

    return [record() for _ in range(count)]


def make_split(folder: Path, count: int = 300) -> RecordSplit:
    """The data that a recipe's `preprocess` would write, read again."""
    write_record_split(folder, DRAFTS, make_records(count))
    return read_record_split(folder)
