"""Owns the sample of held-out tunes that lies beside the weights, so that anyone can measure them in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from services.families.recurrent.music.data import RealTune, from_json, to_json

SAMPLE = "held_out.json"
_SAMPLED = 24


def write_sample(tunes: Sequence[RealTune], folder: Path) -> None:
    """Tunes at even distances."""
    count = min(_SAMPLED, len(tunes))
    chosen = [tunes[i * len(tunes) // count] for i in range(count)]
    (folder / SAMPLE).write_text(json.dumps([to_json(tune) for tune in chosen], indent=1) + "\n")


def read_sample(folder: Path) -> list[RealTune]:
    return [from_json(each) for each in json.loads((folder / SAMPLE).read_text())]
