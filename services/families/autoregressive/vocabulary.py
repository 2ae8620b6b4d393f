"""Owns the way from text to what a model can sound: a sequence of words, or one class. Never sees a tensor."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.families.autoregressive.model import Sound
from shared.errors import InvalidRequest

_BETWEEN = re.compile(r"[\s,.;:!?\-]+")
_SHOWN = 64  # characters of what was got


class Vocabulary:
    """A model's sounds by their names and further words."""

    def __init__(self, sounds: Sequence[Sound], model: str) -> None:
        self._model = model
        self._names = [sound.name for sound in sounds]
        self._labels = {word.casefold(): i for i, sound in enumerate(sounds) for word in (sound.name, *sound.words)}

    def spoken(self, text: str, most: int, param: str) -> list[int]:
        """The labels of a text's words, in order; digits that are written together are said one by one.

        Raises InvalidRequest: a word that the model has not, none at all, or more than `most`.
        """
        labels = [label for word in _BETWEEN.split(text) if word for label in self._word(word, param)]
        if not labels:
            raise InvalidRequest("There is no word to say.", param=param)
        if len(labels) > most:
            message = f"Model '{self._model}' says at most {most} words a request; got {len(labels)}."
            raise InvalidRequest(message, param=param)
        return labels

    def named(self, prompt: str, param: str) -> int:
        """The label that a prompt names. Raises InvalidRequest, which lists them all."""
        label = self._labels.get(" ".join(prompt.split()).casefold())
        if label is None:
            got = prompt[:_SHOWN]
            message = f"Model '{self._model}' has no sound '{got}'. Its sounds: {', '.join(self._names)}."
            raise InvalidRequest(message, param=param)
        return label

    def _word(self, word: str, param: str) -> list[int]:
        label = self._labels.get(word.casefold())
        if label is not None:
            return [label]
        digits = [self._labels.get(character) for character in word]
        if word.isascii() and word.isdigit() and None not in digits:
            return [digit for digit in digits if digit is not None]
        raise InvalidRequest(
            f"Model '{self._model}' cannot say '{word[:_SHOWN]}'. It says: {' '.join(self._names)}; digits may be "
            "written together.",
            param=param,
            code="unknown_word",
        )
