"""Owns the recipe of the published model of dance tunes: data, sizes, schedule. Measuring is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.language_training import LanguageTraining
from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from services.families.recurrent.music.corpus import TuneCorpus, tune_lexemes
from services.families.recurrent.music.data import (
    FEWEST_BARS,
    MOST_BARS,
    TuneSplit,
    read_split,
    read_tunes,
    split_tunes,
    write_split,
)
from services.families.recurrent.music.drawing import Musician
from services.families.recurrent.music.evaluation import evaluate_tunes
from services.families.recurrent.music.held_out import write_sample
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import Terms
from services.families.recurrent.music.repertoire import Repertoire
from services.families.recurrent.music.scores import Metre
from services.families.recurrent.music.sheets import roll_sheet
from services.families.recurrent.music.vocabulary import Lexemes, write_lexemes
from services.nn.weights import save_model
from services.training.packages import MUSIC21
from services.training.recipe import Evaluation, Licence, Package, Schedule

SHOWN = (
    Terms("reel", Metre(4, 4), Key("D", "major")),
    Terms("jig", Metre(6, 8), Key("G", "major")),
    Terms("jig", Metre(9, 8), Key("E", "minor")),
    Terms("hornpipe", Metre(4, 4), Key("A", "major")),
    Terms("strathspey", Metre(4, 4), Key("A", "dorian")),
)


class DancesGru:
    """Dance tunes of Ireland and Scotland, by genre, key, metre and number of bars."""

    name: str = "dances-gru"
    family: str = "recurrent"
    version: int = 1
    max_bytes: int = 3 * 2**20
    summary: str = (
        "Draws reels, jigs, hornpipes and strathspeys of one voice, in the key, the metre and the number of bars "
        "asked for, as ABC, MIDI, MusicXML or sound; goes on from a given opening.\n\n"
        "A gated recurrent unit (Cho 2014, [arXiv:1406.1078](https://arxiv.org/abs/1406.1078)) over lexemes: a note "
        "is a degree of the scale and, unless it is an eighth, a length; each bar begins with how many are left. "
        "Degrees count from the tonic, so what is learnt of a mode holds in every key. While a tune is drawn, what "
        "would not fill a bar exactly is ruled out; all else is the model's choice (folk tunes as ABC text for "
        "recurrent nets: Sturm 2016, [arXiv:1604.08723](https://arxiv.org/abs/1604.08723)). Published as its "
        "exponential moving average."
    )
    packages: Sequence[Package] = (MUSIC21,)
    licence: Licence = Licence(
        data="PyPI music21 10.5.1: 1,512 tunes of O'Neill's Music of Ireland (1903) and Ryan's Mammoth Collection "
        "(1883) in its corpus; 1,306 are trained on",
        data_licence="tunes traditional, both books public domain; the transcriptions state no licence; package BSD-3",
        attribution="O'Neill's transcribed by John Chambers, Henrik Norbeck, Bob Safranek, Trish O'Neil, Dan G. "
        "Petersen and others, Ryan's by Ray Davies; packaged by the music21 developers",
        weights="Apache-2.0",
    )
    schedule: Schedule = Schedule(
        steps=1200,
        batch_size=16,
        warmup=50,
        decay="cosine",
        ema=0.99,
        validate_every=150,
        sample_every=500,
        patience=4,
    )
    embedding: int = 96
    hidden: int = 256
    layers: int = 2
    dropout: float = 0.2

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_split(folder, split_tunes(read_tunes(collected[MUSIC21.name])))

    def build(self, data: Path, seed: int) -> LanguageTraining:
        split = read_split(data)
        lexemes = _lexemes(split)
        held_out = [torch.tensor(lexemes.ids(tune.lexemes)) for tune in split.held_out]

        def sheet(net: RecurrentLM) -> Image.Image:
            return roll_sheet(Musician.of(net, lexemes).draw(SHOWN, 16))

        config = RecurrentConfig(
            cell="gru",
            vocabulary=len(lexemes),
            embedding=self.embedding,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
            eos=lexemes.end,
        )
        corpus = TuneCorpus(split.train, lexemes)
        return LanguageTraining(config, corpus, held_out, seed, sheet=sheet, weight_decay=1e-2)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, tokenizer.json, what can be asked for, some held-out tunes."""
        net, split = modules["net"], read_split(data)
        assert isinstance(net, RecurrentLM)
        save_model(net, net.config, folder)
        write_lexemes(_lexemes(split), folder / TOKENIZER)
        terms = [tune.terms for tune in split.train]
        Repertoire.of(terms, fewest_bars=FEWEST_BARS, most_bars=MOST_BARS).write(folder)
        write_sample(split.held_out, folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_tunes(weights, read_split(data))


def _lexemes(split: TuneSplit) -> Lexemes:
    return tune_lexemes([*split.train, *split.held_out])
