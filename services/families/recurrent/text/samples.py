"""Owns verse that a model draws for its sheets and its card. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from services.families.recurrent.drawing import draw_tokens
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.text.tokens import byte_ids, byte_tokenizer
from services.training.text_sheets import page

_OPENINGS = ("", "The ", "O ", "When ")
_TEMPERATURES = (0.5, 0.7, 1.0)
_LINES, _LONGEST = 8, 480  # of a poem: lines, and characters that are drawn for them


def poems(net: RecurrentLM, openings: Sequence[str], temperature: float, seed: int = 0) -> list[str]:
    """A few lines of verse that begin so; the last line is whole."""
    tokenizer = byte_tokenizer()
    prompts = [byte_ids(opening).tolist() for opening in openings]
    drawn = draw_tokens(net, prompts, _LONGEST, seed=seed, temperature=temperature)
    texts = [opening + tokenizer.decode(ids) for opening, ids in zip(openings, drawn, strict=True)]
    return ["\n".join(text.split("\n")[:_LINES]) for text in texts]


def poem_sheet(net: RecurrentLM) -> Image.Image:
    """A row for each temperature."""
    texts = [poem for temperature in _TEMPERATURES for poem in poems(net, _OPENINGS, temperature)]
    labels = [f"temperature {temperature:g}" for temperature in _TEMPERATURES for _ in _OPENINGS]
    return page(texts, labels, columns=len(_OPENINGS))
