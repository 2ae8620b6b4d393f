"""Owns the pictures of stories, and the stories of a card. Measures nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image

from services.families.transformer.stories.drawing import Storyteller
from services.training.text_sheets import page

PROMPTS = (
    "Miss Martha had not been a week at the parsonage, when",
    "There was a certain man in the city, who had two sons. The younger said to his brother,",
)
_TEMPERATURES = (0.5, 0.8, 1.0)
_TOKENS, _CARD_TOKENS = 120, 160
_COLUMNS, _LINES = 60, 12  # of a picture's text


def story_sheet(teller: Storyteller) -> Image.Image:
    """A row for each temperature, a column for each prompt."""
    texts = [
        prompt + told
        for temperature in _TEMPERATURES
        for prompt, told in zip(
            PROMPTS, teller.tell(PROMPTS, _TOKENS, seed=0, temperature=temperature, top_p=1.0), strict=True
        )
    ]
    labels = [f"temperature {temperature:g}" for temperature in _TEMPERATURES for _ in PROMPTS]
    return page([wrapped(text) for text in texts], labels, columns=len(PROMPTS))


def pair_sheet(prompts: Sequence[str], told: Sequence[str], written: Sequence[str]) -> Image.Image:
    """A row for each prompt: how the model goes on, and how the book does."""
    texts = [prompt + rest for prompt, *rests in zip(prompts, told, written, strict=True) for rest in rests]
    return page([wrapped(text) for text in texts], ["the model", "the book"] * len(prompts), columns=2)


def card_stories(teller: Storyteller) -> list[str]:
    """A story from each prompt, as served, a line each."""
    stories = teller.tell(PROMPTS, _CARD_TOKENS, seed=1)
    return [f"From “{prompt}”:{told}".replace("\n", " / ") for prompt, told in zip(PROMPTS, stories, strict=True)]


def wrapped(text: str) -> str:
    lines = [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, _COLUMNS)]
    return "\n".join(lines[:_LINES])
