"""Owns the classes that a model can be asked for, and the way from a prompt to one. Never sees a tensor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from services.nn.rng import derive_seed
from shared.errors import InvalidRequest

_WORD = re.compile(r"[^\W_]+")
_FILLERS = frozenset({"and"})  # how "&" is said
_CLASS_DRAW = -1  # no row has this index, so a class drawn from a seed shares nothing with a row's seed


class ImageClass(BaseModel):
    """A class that can be asked for: its name, and further words that a prompt may use for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    words: tuple[str, ...] = ()


_DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = tuple(ImageClass(name=str(i), words=(word, "digit")) for i, word in enumerate(_DIGIT_WORDS))
# Emoji by the groups that Unicode puts them in.
EMOJI_GROUPS = (
    ImageClass(name="Smileys & Emotion", words=("smiley", "face", "faces", "emotions", "heart", "hearts")),
    ImageClass(name="People & Body", words=("person",)),
    ImageClass(name="Animals & Nature", words=("animal", "plant", "plants")),
    ImageClass(name="Food & Drink", words=("drinks",)),
    ImageClass(name="Travel & Places", words=("place", "vehicle", "vehicles")),
    ImageClass(name="Activities", words=("activity", "sport", "sports")),
    ImageClass(name="Objects", words=("object", "thing", "things")),
    ImageClass(name="Symbols", words=("symbol", "sign", "signs")),
)


@dataclass(frozen=True, slots=True)
class Named:
    """What a prompt named: a class by its number, or none (any class will do); and the count of its words."""

    label: int | None
    words: int

    def label_for(self, seed: int, classes: int) -> int:
        """The class of a row: the named one, or one drawn from the row's seed."""
        return derive_seed(seed, _CLASS_DRAW) % classes if self.label is None else self.label


class ClassPrompts:
    """Finds the one class that a prompt names: by its whole name, or by words that no other class has together."""

    def __init__(self, classes: Sequence[ImageClass], model: str) -> None:
        self._names = [each.name for each in classes]
        self._name_words = [_words(each.name) for each in classes]
        self._all_words = [_words(" ".join((each.name, *each.words))) for each in classes]
        self._model = model

    def __len__(self) -> int:
        return len(self._names)

    def named(self, prompt: str, param: str) -> Named:
        """Raises InvalidRequest, which lists the classes, for a prompt that names none or more than one."""
        if not prompt.strip():
            return Named(None, 0)
        words = _words(prompt)
        whole = [i for i, name in enumerate(self._name_words) if words == name]
        part = [i for i, known in enumerate(self._all_words) if words and words <= known]
        for found in (whole, part):
            if len(found) == 1:
                return Named(found[0], len(words))
        raise self._refusal(prompt, part, param)

    def _refusal(self, prompt: str, part: Sequence[int], param: str) -> InvalidRequest:
        got = prompt[:64]
        what = f"'{got}' names {len(part)} of its classes" if part else f"it has no class '{got}'"
        return InvalidRequest(
            f"Model '{self._model}' draws images of one class: {what}. Its classes: {', '.join(self._names)}; "
            f"an empty prompt is any of them.",
            param=param,
        )


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold())) - _FILLERS
