"""Owns the recipe of the published model of molecules: data, size, schedule. How it is measured is elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.language_training import LanguageTraining
from services.families.recurrent.model import RecurrentConfig
from services.families.recurrent.molecules import chemistry
from services.families.recurrent.molecules.data import read_molecules, write_molecules
from services.families.recurrent.molecules.drawing import draw_smiles, molecule_sheet
from services.families.recurrent.molecules.evaluation import evaluate_molecules, write_sample
from services.families.recurrent.molecules.reference import write_reference
from services.families.recurrent.molecules.smiles import BOS, EOS
from services.nn.weights import save_model
from services.training.packages import MOLSETS
from services.training.recipe import Evaluation, Licence, Package, Schedule

_VALIDATED = 500  # molecules of the test part
_VOCABULARY = 26  # BOS, EOS, and the tokens of the training part


class MoleculesLstm:
    """Drug-like molecules as SMILES."""

    name: str = "molecules-lstm"
    family: str = "recurrent"
    version: int = 1
    summary: str = (
        "Draws drug-like molecules as SMILES, token by token, from nothing or from a given beginning; says exactly how "
        "likely a given SMILES is.\n\n"
        "An LSTM (Hochreiter and Schmidhuber 1997, [doi:10.1162/neco.1997.9.8.1735]"
        "(https://doi.org/10.1162/neco.1997.9.8.1735)) that is trained to tell the next token, as Segler 2017 "
        "([arXiv:1701.01329](https://arxiv.org/abs/1701.01329)) has it. Published as its exponential moving average."
    )
    packages: Sequence[Package] = (MOLSETS,)
    licence: Licence = Licence(
        data="PyPI molsets 0.3.1 (MOSES, of ZINC Clean Leads): 1,584,663 molecules to train on, of which a run sees "
        "about a quarter",
        data_licence="MIT",
        attribution="Molecular Sets: Polykovskiy et al. 2020, doi:10.3389/fphar.2020.565644; ZINC: Sterling and Irwin "
        "2015, doi:10.1021/acs.jcim.5b00559",
        weights="Apache-2.0",
    )
    schedule: Schedule = Schedule(
        steps=13_000, batch_size=2, warmup=200, decay="cosine", ema=0.998, validate_every=1000, sample_every=6500
    )
    max_bytes: int = 3 * 2**20
    config: RecurrentConfig = RecurrentConfig(
        cell="lstm", vocabulary=_VOCABULARY, embedding=64, hidden=384, layers=1, bos=BOS, eos=EOS
    )

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        write_molecules(collected[MOLSETS.name], folder)
        write_reference(collected[MOLSETS.name], folder)

    def build(self, data: Path, seed: int) -> LanguageTraining:
        chemistry.silence()  # of its sheets, half are no molecules at first
        molecules = read_molecules(data)
        return LanguageTraining(
            self.config,
            molecules.train.alike,
            molecules.test.spread(_VALIDATED),
            seed,
            sheet=lambda net: molecule_sheet(draw_smiles(net, molecules.tokenizer, 20, seed=0)),
            learning_rate=4e-3,
        )

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        """config.json, model.safetensors, tokenizer.json, and a sample of held-out molecules."""
        save_model(modules["net"], self.config, folder)
        shutil.copyfile(data / TOKENIZER, folder / TOKENIZER)
        write_sample(read_molecules(data), folder)

    def evaluate(self, weights: Path, data: Path) -> Evaluation:
        return evaluate_molecules(weights, data)
