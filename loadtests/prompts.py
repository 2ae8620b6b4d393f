"""Owns what simulated people ask: questions of unlike lengths, texts of a wanted length, and what files say instead."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

QUESTIONS = (
    "What is the capital of France?",
    "Name three primary colours.",
    "Write a haiku about the sea.",
    "Why is the sky blue? Answer for a child of seven.",
    "Explain in a short paragraph how a bicycle stays upright.",
    "Translate into French: The meeting is moved to Thursday at ten.",
    "Give me a packing list for two days in the mountains in autumn, with a reason for each item.",
    "Summarise in one sentence: "
    + "The ferry leaves the old harbour at six, crosses the strait in two hours and returns at dusk. " * 6,
    "Which of these arguments is the strongest, and why? "
    + "Trains carry more people for the same energy. Cars leave when you do. Bicycles need no fuel at all. " * 12,
)
WORDS = tuple(dict.fromkeys(" ".join(QUESTIONS).split()))
WORDS_A_TOKEN = 0.75  # of English text and a vocabulary of tens of thousands


def text_of(tokens: int, rng: Random) -> str:
    """About so many tokens, like no other text: words at random, and at the end a question if there is room.

    The question comes last, so that texts share no beginning, which a server could keep from one to the next.
    """
    words = max(1, round(tokens * WORDS_A_TOKEN))
    fitting = [question for question in (each.split() for each in QUESTIONS) if len(question) < words]
    question = rng.choice(fitting) if fitting else []
    return " ".join([*rng.choices(WORDS, k=words - len(question)), *question])


Texts = Annotated[tuple[str, ...], Field(min_length=1)]


class Inputs(BaseModel):
    """What cannot be drawn: names that models know, unknown to /v1/models. The defaults fit the embedded fleet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Texts = Field(default=("",), description="prompts of images; an empty one is any class")
    voice: str = Field(default="allison", min_length=1, description="of speech")
    speech: Texts = Field(default=("a b c", "1 2 3 4", "k 7 m 2 x"), description="what is to be said")
    sound: Texts = Field(default=("kick", "snare", "hi-hat", "bell"), description="prompts of sounds")
    scaffold: Texts = Field(default=("",), description="beginnings of molecules; an empty one is any")

    @classmethod
    def read(cls, path: Path) -> Inputs:
        """Raises OSError, yaml.YAMLError, pydantic.ValidationError."""
        return cls.model_validate(yaml.safe_load(path.read_text()))
