"""Owns the measuring of published character models: bits a character of held-out verse beside n-grams, and poems."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.families.recurrent.language import load_net
from services.families.recurrent.language_training import document_nats
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.text.samples import poem_sheet, poems
from services.families.recurrent.text.tokens import VOCABULARY, byte_ids
from services.families.recurrent.text.verse import read_texts, read_verse
from services.training.ngrams import NgramModel
from services.training.recipe import Evaluation, Figure
from services.training.report import read_report

SAMPLE = "held_out.txt"
BITS = "bits_per_character"
_ORDERS = 7  # n-grams of up to so many characters are compared with
_POEMS = 3  # in the card's words


def bits_per_character(net: RecurrentLM, texts: Sequence[str]) -> float:
    """Of each text's characters, the first included, told from those before it in the text."""
    nats = document_nats(net, [byte_ids(text) for text in texts])
    return nats.sum().item() / math.log(2) / sum(map(len, texts))


def evaluate_verse(weights: Path, data: Path, others: Sequence[Path]) -> Evaluation:
    """`others`: folders of published models of the same verse, whose reports are told beside this one's figures."""
    net, held_out = load_net(weights), read_verse(data, "held_out")
    bits = bits_per_character(net, held_out)
    model = NgramModel([byte_ids(text).numpy() for text in read_verse(data, "training")], _ORDERS, VOCABULARY)
    grams = _ngram_bits(model, held_out)
    figures = [*_figures(bits, grams), sample_figure(net, weights)]
    notes = [_ngram_note(net, model, bits, grams), *_beside(others), *_poem_notes(net)]
    return Evaluation(figures, {"poems": poem_sheet(net)}, notes)


def sample_figure(net: RecurrentLM, weights: Path) -> Figure:
    """What anyone can measure in a second, without the training data."""
    texts = read_texts(weights / SAMPLE)
    return Figure(
        "sample_bits_per_character",
        bits_per_character(net, texts),
        "lower",
        tolerance=0.005,
        baseline=_entropy("".join(texts)),
        baseline_name="the sample's own frequencies of characters",
        meaning="on the committed held-out passages",
    )


def _figures(bits: float, grams: Sequence[float]) -> Iterator[Figure]:
    best = _best_order(grams)
    name = f"an interpolated {best}-gram model of the same training text, the best of orders 1 to {len(grams)}"
    told = "on held-out passages, each told from its beginning"
    yield Figure(BITS, bits, "lower", 0.005, grams[best - 1], name, told)
    yield Figure(
        "perplexity_per_character", 2**bits, "lower", 0.02, 2 ** grams[best - 1], name, f"2 to the bits, {told}"
    )


def _ngram_bits(model: NgramModel, held_out: Sequence[str]) -> list[float]:
    """Bits a character of orders 1, 2, ..."""
    characters = sum(map(len, held_out))
    return [bits / characters for bits in model.document_bits([byte_ids(text).numpy() for text in held_out])]


def _ngram_note(net: RecurrentLM, model: NgramModel, bits: float, grams: Sequence[float]) -> str:
    told = ", ".join(f"{order}: {each:.3f}" for order, each in enumerate(grams, start=1))
    weights = sum(parameter.numel() for parameter in net.parameters())
    best = _best_order(grams)
    return (
        f"Bits a character on held-out verse: this model {bits:.3f}; n-grams (Witten-Bell, counted on all of the "
        f"training text) by order {told}. Order 1 knows how often each character comes, and no more; order {best} "
        f"holds {model.counts(best):,} counts, this model {weights:,} weights."
    )


def _best_order(grams: Sequence[float]) -> int:
    return 1 + min(range(len(grams)), key=lambda i: grams[i])


def _beside(others: Sequence[Path]) -> Iterator[str]:
    for folder in others:
        if folder.is_dir():
            report = read_report(folder)
            figure = {figure.name: figure for figure in report.figures}[BITS]
            yield f"{report.name}, trained on the same verse: {figure.value:.3f} bits a character, as its report says."


def _poem_notes(net: RecurrentLM) -> Iterator[str]:
    for poem in poems(net, [""] * _POEMS, 0.6, seed=1):
        yield "Drawn at temperature 0.6: " + " / ".join(poem.split("\n"))


def _entropy(text: str) -> float:
    """Bits a character of a code made for these very characters."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
