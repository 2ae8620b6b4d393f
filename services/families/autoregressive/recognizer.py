"""Owns what a speech recognizer makes of clips: Whisper tiny.en, and how many words it gets wrong.

The recognizer is of no use to serving: it comes with the training's packages (`faster-whisper`, the model by PyPI).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.families.autoregressive.clips import resampled

_RATE = 16000  # that Whisper hears
_MOST_TOKENS = 48  # of what is no speech, it may say the same word for ever
_EDGE_S = 0.3  # of silence around
_TOKEN = re.compile(r"[A-Za-z]+|[0-9]")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGIT_OF: Mapping[str, str] = {word: str(i) for i, word in enumerate(_NUMBERS)} | {"oh": "0"}


class Recognizer:
    """Whisper by CTranslate2 on one thread; greedy, so that it says the same each time."""

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel  # noqa: PLC0415 # of the extra `train`

        self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)

    def hears(self, clip: Tensor, rate: int) -> str:
        """The text of a clip float32 (samples,)."""
        edge = torch.zeros(round(_EDGE_S * _RATE))
        heard = torch.cat([edge, resampled(clip, round(len(clip) * _RATE / rate)), edge])
        segments, _ = self._model.transcribe(
            heard.numpy().astype(np.float32),
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            max_new_tokens=_MOST_TOKENS,
        )
        return " ".join(segment.text for segment in segments)


def spelled(text: str) -> list[str]:
    """The words that a text says, in lower case: numbers by their digits, capitals letter by letter.

    Any other word is one, and so one error where letters or digits were said.
    """
    out: list[str] = []
    for token in _TOKEN.findall(text):
        word = token.casefold()
        out += [_DIGIT_OF.get(word, word)] if word in _DIGIT_OF or not token.isupper() else list(word)
    return out


def errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest words to put in, leave out or change to get from one to the other (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def word_error_rate(recognizer: Recognizer, clips: Sequence[Tensor], said: Sequence[Sequence[str]], rate: int) -> float:
    """Errors a word that was said, over all clips; it may be over 1."""
    wrong = sum(errors(words, spelled(recognizer.hears(clip, rate))) for clip, words in zip(clips, said, strict=True))
    return wrong / sum(len(words) for words in said)
