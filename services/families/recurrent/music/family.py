"""Owns the way from a folder of weights to a loaded model of tunes, and what clients may ask of it."""

from __future__ import annotations

from pathlib import Path

from services.families import LoadedModel
from services.families.recurrent.language import TOKENIZER, load_language
from services.families.recurrent.music.checking import Checker
from services.families.recurrent.music.drawing import Musician
from services.families.recurrent.music.repertoire import read_repertoire
from services.families.recurrent.music.sound import FluidSynth, PluckedString
from services.families.recurrent.music.tasks import MusicTask
from services.families.recurrent.music.vocabulary import read_lexemes_file
from services.families.recurrent.sampler import SamplerLimits
from services.nn.text.params import SamplingOptions
from shared.config.recurrent import RecurrentMusicModel

_PARSER_MEMORY = 64 * 2**20  # music21, once a tune was checked


def load_music_model(config: RecurrentMusicModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel, DeviceFailure, as `load_language`; UnsupportedModel for a soundfont that cannot play."""
    language = load_language(config, folder)
    musician = Musician.of(language.sampler.model, read_lexemes_file(folder / TOKENIZER))
    repertoire = read_repertoire(folder)
    instrument = FluidSynth.with_soundfont(Path(config.soundfont)) if config.soundfont else PluckedString()
    sampling = SamplingOptions(temperature=config.temperature, top_p=config.top_p)
    limits = SamplerLimits(config.max_batch_size, config.prefill_tokens, config.state_memory)
    return LoadedModel(
        sampler=musician.sampler(limits),
        tasks={"music": MusicTask(musician, repertoire, sampling, instrument, Checker())},
        memory=language.memory + _PARSER_MEMORY,
        limits={"bars": repertoire.most_bars, "max_batch_size": config.max_batch_size},
        revision=config.revision,
    )
