"""Owns the family's entry: a folder of weights becomes a loaded model, of the kind that the configuration says."""

from __future__ import annotations

from pathlib import Path

from services.families import LoadedModel
from services.families.recurrent.forecasts.family import load_forecast_model
from services.families.recurrent.text.family import load_text_model
from shared.config.recurrent import (
    RecurrentForecastModel,
    RecurrentModel,
    RecurrentMoleculeModel,
    RecurrentMusicModel,
)


def load(config: RecurrentModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel for weights of another kind, DeviceFailure if the device fails."""
    if isinstance(config, RecurrentMoleculeModel):
        # RDKit takes a third of a second and 60 MB, which the other kinds need not pay.
        from services.families.recurrent.molecules.family import load_molecule_model  # noqa: PLC0415

        return load_molecule_model(config, folder)
    if isinstance(config, RecurrentMusicModel):
        from services.families.recurrent.music.family import load_music_model  # noqa: PLC0415 - it reads and writes MIDI

        return load_music_model(config, folder)
    if isinstance(config, RecurrentForecastModel):
        return load_forecast_model(config, folder)
    return load_text_model(config, folder)
