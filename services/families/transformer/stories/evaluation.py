"""Owns the measuring of a published story GPT: bits a character beside n-grams, what it copies, stories to look at."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from services.families.transformer.stories.chapters import read_part, read_texts
from services.families.transformer.stories.copying import Source
from services.families.transformer.stories.drawing import TEMPERATURE, TOP_P, Storyteller
from services.families.transformer.stories.model import read_model
from services.families.transformer.stories.scoring import bits_per_character
from services.families.transformer.stories.sheets import card_stories, pair_sheet, story_sheet
from services.families.transformer.stories.tokens import BYTES, TOKENIZER, byte_documents, documents
from services.training.ngrams import NgramModel
from services.training.recipe import Evaluation, Figure

SAMPLE = "held_out.txt"
_TOKEN_ORDERS, _BYTE_ORDERS = 5, 7  # n-grams of up to so many tokens, and bytes, are compared with
_BEGINNINGS, _BEGINNING = 64, 16  # stories whose copying is measured, and the words that each is begun with
_TOLD = 160  # tokens of each
_SHOWN = 4  # of them, on a sheet
_SENTENCE = re.compile(r'(?:\A|\n|(?<=[.?!]) )(?="?[A-Z])')  # where one begins


@dataclass(frozen=True, slots=True)
class Grams:
    """Bits of held-out text by n-grams of its tokens and of its bytes: all of it, by orders 1, 2, ..."""

    by_token: Sequence[float]
    by_byte: Sequence[float]

    @classmethod
    def of(cls, tokenizer: Tokenizer, training: Sequence[str], held_out: Sequence[str]) -> Grams:
        tokens = [[one.tolist() for one in documents(tokenizer, texts)] for texts in (training, held_out)]
        by_token = NgramModel(tokens[0], _TOKEN_ORDERS, tokenizer.get_vocab_size()).document_bits(tokens[1])
        spelled = [[one.tolist() for one in byte_documents(texts)] for texts in (training, held_out)]
        return cls(by_token, NgramModel(spelled[0], _BYTE_ORDERS, BYTES).document_bits(spelled[1]))

    @property
    def best(self) -> tuple[float, str]:
        """The fewest bits, and whose they are."""
        kinds = (("tokens", self.by_token), ("bytes", self.by_byte))
        return min((bits, f"of {i} {kind}") for kind, all_bits in kinds for i, bits in enumerate(all_bits, start=1))


def evaluate_stories(weights: Path, data: Path) -> Evaluation:
    """Every figure and sheet of a folder of weights; some three minutes on a core."""
    model, tokenizer, teller = read_model(weights), read_tokenizer(weights), Storyteller(weights)
    training, held_out = read_part(data, "training"), read_part(data, "held_out")
    told = documents(tokenizer, held_out)
    characters, tokens = sum(map(len, held_out)), sum(len(document) - 1 for document in told)
    bits = bits_per_character(model, told, held_out) * characters
    grams = Grams.of(tokenizer, training, held_out)
    pairs = continuations(teller, tokenizer, held_out)
    figures = [
        *_told_figures(bits, grams, characters, tokens),
        *_copy_figures(Source(training), pairs),
        sample_figure(model, weights),
    ]
    shown = slice(0, len(pairs), max(1, len(pairs) // _SHOWN))
    sheets = {"stories": story_sheet(teller), "continuations": pair_sheet(*zip(*pairs[shown], strict=True))}
    return Evaluation(figures, sheets, [_gram_note(bits, grams, characters, tokens), *card_stories(teller)])


def read_tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / TOKENIZER))


def sample_figure(model: GPT2LMHeadModel, weights: Path) -> Figure:
    """What anyone can measure in seconds, without the training data."""
    texts = read_texts(weights / SAMPLE)
    return Figure(
        "sample_bits_per_character",
        bits_per_character(model, documents(read_tokenizer(weights), texts, end=False), texts),
        "lower",
        tolerance=0.005,
        baseline=_entropy("".join(texts)),
        baseline_name="the sample's own frequencies of characters",
        meaning="on the committed beginnings of held-out chapters",
    )


def sample_of(held_out: Sequence[str], count: int = 12, characters: int = 1500) -> list[str]:
    """Beginnings of chapters spread over all of them, each ending with a word."""
    chosen = held_out[:: max(1, len(held_out) // count)][:count]
    return [text if len(text) <= characters else text[:characters].rsplit(maxsplit=1)[0] for text in chosen]


def continuations(teller: Storyteller, tokenizer: Tokenizer, held_out: Sequence[str]) -> list[tuple[str, str, str]]:
    """From places in held-out chapters: a beginning, how the model goes on, and how the book does, to equal lengths."""
    begun = list(_beginnings(held_out))
    told = teller.tell([beginning for beginning, _ in begun], _TOLD, seed=0)
    return [
        (beginning, story, " " + " ".join(rest.split(" ")[: len(story.split())]))
        for (beginning, rest), story in zip(begun, told, strict=True)
    ]


def _beginnings(held_out: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The first words of a sentence, and what follows them in its chapter; from places that are spread evenly."""
    least = 8 * (_TOLD + _BEGINNING)  # characters, that a chapter must go on for
    places = [
        text[match.end() :]
        for text in held_out
        for match in _SENTENCE.finditer(text)
        if len(text) - match.end() >= least
    ]
    count = min(_BEGINNINGS, len(places))
    for i in range(count):
        *first, rest = places[i * len(places) // count].split(" ", _BEGINNING)
        yield " ".join(first), rest


def _told_figures(bits: float, grams: Grams, characters: int, tokens: int) -> Iterator[Figure]:
    best, whose = grams.best
    told = "on held-out chapters, in windows that overlap by a half; a chapter's end is told as well"
    name = f"interpolated n-grams {whose}, the best of all"
    yield Figure("bits_per_character", bits / characters, "lower", 0.005, best / characters, name, told)
    by_token = min(grams.by_token)
    order = grams.by_token.index(by_token) + 1
    name = f"interpolated n-grams of {order} tokens"
    perplexity, beside = (2 ** (each / tokens) for each in (bits, by_token))
    yield Figure("perplexity_per_token", perplexity, "lower", 0.01 * perplexity, beside, name, told)


def _copy_figures(source: Source, pairs: Sequence[tuple[str, str, str]]) -> Iterator[Figure]:
    told, written = ([len(source.longest_run(pair[i])) for pair in pairs] for i in (1, 2))
    drawn = (
        f"words that one of {len(pairs)} stories shares with the training text in one run; each goes on from "
        f"{_BEGINNING} words of a held-out chapter, at temperature {TEMPERATURE:g} and top_p {TOP_P:g}"
    )
    name = "the same of the book's own words there"
    yield Figure("longest_copied_run", max(told), "lower", 8.0, max(written), name, f"the most {drawn}")
    means = [sum(runs) / len(runs) for runs in (told, written)]
    yield Figure(
        "mean_copied_run", means[0], "lower", 0.5, means[1], name, f"the mean over stories of the most {drawn}"
    )


def _gram_note(bits: float, grams: Grams, characters: int, tokens: int) -> str:
    by_token, by_byte = (
        ", ".join(f"{order}: {each / characters:.3f}" for order, each in enumerate(all_bits, start=1))
        for all_bits in (grams.by_token, grams.by_byte)
    )
    return (
        f"Bits a character on held-out chapters ({characters} characters, {tokens} tokens): this model "
        f"{bits / characters:.3f}; n-grams of its tokens (Witten-Bell, counted on all of the training text) by order "
        f"{by_token}; of bytes {by_byte}. Order 1 knows how often each one comes, and no more; its perplexity is "
        f"{2 ** (grams.by_token[0] / tokens):.0f} a token."
    )


def _entropy(text: str) -> float:
    """Bits a character of a code made for these very characters."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
