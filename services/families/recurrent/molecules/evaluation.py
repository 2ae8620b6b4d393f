"""Owns the measuring of published models of molecules: MOSES's own measures beside its baselines, and bits a token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from services.families.recurrent.language import TOKENIZER, load_net
from services.families.recurrent.language_training import document_nats
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.molecules import baselines, chemistry, measures
from services.families.recurrent.molecules.data import MoleculeData, read_molecules, spread_places
from services.families.recurrent.molecules.drawing import draw_smiles, molecule_sheet
from services.families.recurrent.molecules.measures import Drawn
from services.families.recurrent.molecules.reference import PROPERTIES, Reference, read_reference
from services.families.recurrent.molecules.smiles import BOS, EOS, cut
from services.training.distances import frechet_distance
from services.training.ngrams import NgramModel
from services.training.recipe import Evaluation, Figure
from shared.config.recurrent import RecurrentMoleculeModel

SAMPLE = "held_out.txt"
TEMPERATURE: float = RecurrentMoleculeModel.model_fields["sampling"].default.temperature
SCAFFOLDS = ("CN1CCN(", "O=C(Nc1ccc(", "c1ccc2c(", "CC(C)(C)", "CS(=O)(=O)N")
_SAMPLED = 100  # molecules that lie beside the weights
_DRAWN, _SEED = 10_000, 0
_TOLD = 10_000  # held-out molecules
_OTHERS = (1.0, 0.9, 0.8)  # temperatures that the notes compare
_OTHER_DRAWN = 2000
_OF_EACH_SCAFFOLD = 200
_COUNTED, _ORDERS = 200_000, 8  # of the n-grams: training molecules, and the longest
_SHOWN = 20


def write_sample(data: MoleculeData, folder: Path) -> None:
    """held_out.txt: SMILES of the test part, a line each."""
    (folder / SAMPLE).write_text("\n".join(data.texts(data.test, _SAMPLED)) + "\n")


def bits_per_token(net: RecurrentLM, documents: Sequence[Tensor]) -> float:
    """Of every token after BOS, EOS included."""
    return document_nats(net, documents).sum().item() / math.log(2) / sum(len(each) - 1 for each in documents)


def evaluate_molecules(weights: Path, folder: Path) -> Evaluation:
    """Every figure and sheet of a folder of weights; some minutes on a core."""
    chemistry.silence()
    net, data, reference = load_net(weights), read_molecules(folder), read_reference(folder)
    drawn = Drawn.of(draw_smiles(net, data.tokenizer, _DRAWN, seed=_SEED, temperature=TEMPERATURE))
    begun = {
        scaffold: draw_smiles(
            net, data.tokenizer, _OF_EACH_SCAFFOLD, seed=_SEED, temperature=TEMPERATURE, scaffold=scaffold
        )
        for scaffold in SCAFFOLDS
    }
    grams = _ngram_bits(data)
    figures = [
        *_share_figures(drawn, set(data.texts(data.train))),
        *_likeness_figures(drawn, reference),
        *_property_figures(drawn, reference),
        _scaffold_figure(begun),
        *_bits_figures(net, data, grams),
        sample_figure(net, weights),
    ]
    each = [smiles for drawings in begun.values() for smiles in Drawn.of(drawings).canonical[:5]]
    sheets = {"molecules": molecule_sheet(drawn.canonical[:_SHOWN]), "scaffolds": molecule_sheet(each)}
    return Evaluation(figures, sheets, list(_notes(net, data, grams)))


def sample_figure(net: RecurrentLM, weights: Path) -> Figure:
    """What anyone can measure in a second, without the training data."""
    tokenizer = Tokenizer.from_file(str(weights / TOKENIZER))
    documents = [_document(tokenizer, line) for line in (weights / SAMPLE).read_text().splitlines()]
    counts = torch.cat([each[1:] for each in documents]).bincount()
    shares = counts[counts > 0] / counts.sum()
    return Figure(
        "sample_bits_per_token",
        bits_per_token(net, documents),
        "lower",
        tolerance=0.002,
        baseline=-(shares * shares.log2()).sum().item(),
        baseline_name="the sample's own frequencies of tokens",
        meaning=f"of the {len(documents)} molecules of the committed sample",
    )


def _document(tokenizer: Tokenizer, smiles: str) -> Tensor:
    return torch.tensor([BOS, *(tokenizer.token_to_id(token) for token in cut(smiles)), EOS])


def _share_figures(drawn: Drawn, known: set[str]) -> Iterator[Figure]:
    def figure(name: str, value: float, tolerance: float, meaning: str) -> Figure:
        return Figure(name, value, "higher", tolerance, baselines.CHAR_RNN[name], baselines.NAME, meaning)

    yield figure("valid", drawn.validity, 0.01, f"share of {drawn.count:,} drawn that RDKit reads as a molecule")
    yield figure("unique_at_1k", drawn.unique(1000), 0.005, "share of different ones among the first 1,000 valid ones")
    yield figure("unique_at_10k", drawn.unique(_DRAWN), 0.005, f"the same of all {len(drawn.molecules):,} valid ones")
    yield figure("novelty", drawn.novelty(known), 0.01, "share of the different valid ones that are not trained on")


def _likeness_figures(drawn: Drawn, reference: Reference) -> Iterator[Figure]:
    def figure(name: str, value: float, tolerance: float, meaning: str) -> Figure:
        better = "lower" if name == "fcd" else "higher"
        return Figure(name, value, better, tolerance, baselines.CHAR_RNN[name], baselines.NAME, meaning)

    bits = measures.fingerprints(drawn.molecules)
    yield figure(
        "internal_diversity", measures.internal_diversity(bits), 0.005, "1 - the mean Tanimoto similarity of all pairs"
    )
    yield figure(
        "snn",
        measures.nearest_similarity(bits, reference.fingerprints),
        0.01,
        "mean Tanimoto similarity to the nearest test molecule",
    )
    found = measures.cosine(measures.fragments(drawn.molecules), reference.fragments)
    yield figure("frag", found, 0.005, "cosine similarity of the counts of BRICS fragments to the test part's")
    found = measures.cosine(measures.scaffolds(drawn.molecules), reference.scaffolds)
    yield figure("scaf", found, 0.03, "the same of Bemis-Murcko scaffolds of two rings or more")
    found = frechet_distance(measures.chemnet_statistics(drawn.canonical), reference.chemnet)
    yield figure("fcd", found, 0.1, "Frechet distance to the test part in the features of ChemNet")


def _property_figures(drawn: Drawn, reference: Reference) -> Iterator[Figure]:
    ours = drawn.properties()
    for name in PROPERTIES:
        theirs = reference.values[name]
        yield Figure(
            f"wasserstein_{name.lower()}",
            measures.wasserstein(ours[name], theirs),
            "lower",
            tolerance=0.02 * float(np.std(theirs)),
            baseline=measures.wasserstein(theirs[spread_places(len(theirs), _DRAWN)], theirs),
            baseline_name=f"{_DRAWN:,} of the test molecules",
            meaning=f"distance to the test part's values, whose standard deviation is {np.std(theirs):.3g}",
        )


def _scaffold_figure(begun: dict[str, list[str]]) -> Figure:
    shares = [Drawn.of(smiles).validity for smiles in begun.values()]
    told = ", ".join(f"{scaffold} {share:.2f}" for scaffold, share in zip(begun, shares, strict=True))
    return Figure(
        "valid_with_scaffold",
        float(np.mean(shares)),
        "higher",
        tolerance=0.03,
        meaning=f"share of {_OF_EACH_SCAFFOLD} drawn from each of {len(begun)} beginnings: {told}",
    )


def _bits_figures(net: RecurrentLM, data: MoleculeData, grams: Sequence[float]) -> Iterator[Figure]:
    best = min(range(len(grams)), key=lambda i: grams[i])
    yield Figure(
        "bits_per_token",
        bits_per_token(net, data.test.spread(_TOLD)),
        "lower",
        tolerance=0.002,
        baseline=grams[best],
        baseline_name=f"an interpolated {best + 1}-gram model, the best of orders 1 to {len(grams)}",
        meaning=f"exact, of {_TOLD:,} test molecules",
    )
    yield Figure(
        "bits_per_token_of_unseen_scaffolds",
        bits_per_token(net, data.test_scaffolds.spread(_TOLD)),
        "lower",
        tolerance=0.002,
        meaning="the same of molecules whose scaffolds the training part lacks",
    )


def _ngram_bits(data: MoleculeData) -> list[float]:
    """Bits a token of the held-out molecules by orders 1, 2, ..."""
    known = [each.numpy() for each in data.train.spread(_COUNTED)]
    model = NgramModel(known, _ORDERS, data.tokenizer.get_vocab_size())
    held_out = [each.numpy() for each in data.test.spread(_TOLD)]
    tokens = sum(len(each) - 1 for each in held_out)
    return [bits / tokens for bits in model.document_bits(held_out)]


def _notes(net: RecurrentLM, data: MoleculeData, grams: Sequence[float]) -> Iterator[str]:
    yield (
        f"Drawn at temperature {TEMPERATURE:g}, which a request gets that says nothing else, with seed {_SEED}; what "
        "is not valid is not drawn anew here."
    )
    for temperature in _OTHERS:
        drawn = Drawn.of(draw_smiles(net, data.tokenizer, _OTHER_DRAWN, seed=_SEED + 1, temperature=temperature))
        diversity = measures.internal_diversity(measures.fingerprints(drawn.molecules))
        yield (
            f"At temperature {temperature:g}, of {_OTHER_DRAWN:,} drawn: valid {drawn.validity:.3f}, unique "
            f"{drawn.unique(_OTHER_DRAWN):.4f}, internal diversity {diversity:.4f}."
        )
    yield from baselines.notes()
    told = ", ".join(f"{order}: {each:.3f}" for order, each in enumerate(grams, start=1))
    yield f"Bits a token of n-grams (Witten-Bell, counted on {_COUNTED:,} training molecules) by order: {told}."
