"""Owns the list of all modalities, by their task in /v1/models."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.users.asks import Modality
from loadtests.users.chat import Chat
from loadtests.users.completions import Completions
from loadtests.users.edits import Edit, Reconstruction, Variation
from loadtests.users.embeddings import Embedding
from loadtests.users.forecasts import Forecast
from loadtests.users.images import Image, Interpolation
from loadtests.users.levels import Level
from loadtests.users.molecules import Molecule
from loadtests.users.music import Music
from loadtests.users.records import Record
from loadtests.users.scores import Score
from loadtests.users.sounds import Sound, Speech

_ALL: tuple[type[Modality], ...] = (
    Chat,
    Completions,
    Embedding,
    Image,
    Edit,
    Variation,
    Interpolation,
    Reconstruction,
    Score,
    Record,
    Molecule,
    Music,
    Level,
    Forecast,
    Speech,
    Sound,
)
MODALITIES: Mapping[str, type[Modality]] = {each.task: each for each in _ALL}
