"""A tiny model of tunes with random weights, as a folder that the family loads, and requests of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import END, Terms, bar_lexeme
from services.families.recurrent.music.repertoire import KEYS, Repertoire
from services.families.recurrent.music.scores import Metre
from services.families.recurrent.music.vocabulary import Lexemes, write_lexemes
from services.nn.weights import save_model
from shared.config.recurrent import RecurrentMusicModel
from shared.schemas.music import MusicGenerationRequest

METRES = {"reel": "4/4", "jig": "6/8", "hornpipe": "4/4", "strathspey": "4/4"}
TERMS = [
    *(Terms(genre, Metre.parse(metre), Key("G", "major")) for genre, metre in METRES.items()),
    Terms("jig", Metre(6, 8), Key("A", "dorian")),
    Terms("jig", Metre(9, 8), Key("E", "minor")),
]
LEXEMES = Lexemes.of(
    [
        *(lexeme for terms in TERMS for lexeme in terms.lexemes()),
        *(lexeme for key in KEYS for lexeme in Terms("reel", Metre(4, 4), key).lexemes()),
        *(bar_lexeme(left) for left in range(1, 33)),
        *(str(degree) for degree in range(-7, 15)),
        *("3+", "6-", "z", "(3", "(3/"),
        *("x1/2", "x3/2", "x2", "x3", "x4"),
        END,
    ]
)


def tiny_net() -> RecurrentLM:
    """Weights large enough that tunes differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = RecurrentLM(
            RecurrentConfig(cell="gru", vocabulary=len(LEXEMES), embedding=8, hidden=16, layers=2, eos=LEXEMES.end)
        )
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    return net.eval()


def tiny_folder(folder: Path) -> Path:
    net = tiny_net()
    save_model(net, net.config, folder)
    write_lexemes(LEXEMES, folder / TOKENIZER)
    Repertoire.of(TERMS, fewest_bars=4, most_bars=32).write(folder)
    return folder


def music_config(folder: Path, **options: Any) -> RecurrentMusicModel:
    return RecurrentMusicModel(id="tiny", source=f"file://{folder}", kind="music", **options)


def request_of(**fields: Any) -> MusicGenerationRequest:
    return MusicGenerationRequest.model_validate_json(json.dumps({"model": "tiny", **fields}))
