"""Owns what clients may ask: a text, said sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from services.families.vits.params import Sentence, SpeechParams
from services.families.vits.phonemes import Phonemizer, Utterance, utterances
from services.families.vits.sentences import split
from services.families.vits.voice import VoiceConfig
from services.nn.audio import AudioChunk, encode_chunk, row_audio
from services.nn.rng import image_seed
from services.nn.speech import check_no_instructions, check_voice
from shared.errors import InvalidRequest
from shared.events import AudioDelta
from shared.schemas.audio import SpeechRequest

LONGEST = 200  # phonemes of a sentence, some ten seconds; longer ones are said in pieces. Half of it if said slowly


@dataclass(frozen=True, slots=True)
class Speaking:
    """How a model is asked: by what name and voice, at what temperature if nothing is said, with what pause between
    sentences, in seconds, and how many phonemes at most."""

    model: str
    voice: str
    temperature: float
    gap_s: float
    most_phonemes: int


@dataclass(frozen=True, slots=True)
class SpeechTask:
    """One row: the input's sentences, one after the other."""

    encodes_slowly: ClassVar[bool] = True

    config: VoiceConfig
    phonemizer: Phonemizer
    speaking: Speaking

    def prepare(self, request: SpeechRequest, salt: str = "") -> list[SpeechParams]:
        """Raises InvalidRequest: another voice, instructions, nothing to say, or too much; InternalError."""
        how, rate = self.speaking, self.config.audio.sample_rate
        check_voice(request, model=how.model, voice=how.voice)
        check_no_instructions(request, model=how.model)
        longest = round(LONGEST * min(1.0, max(0.5, request.speed)))
        said = utterances(split(request.input), self.phonemizer, longest)
        phonemes = sum(len(each.phonemes) for each in said)
        if not phonemes:
            raise InvalidRequest(f"Model '{how.model}' finds nothing to say in this text.", param="input")
        if phonemes > how.most_phonemes:
            message = (
                f"Model '{how.model}' says at most {how.most_phonemes} phonemes a request; this text has {phonemes}."
            )
            raise InvalidRequest(message, param="input", code="string_above_max_length")
        return [
            SpeechParams(
                "speech",
                image_seed(request.seed, 0),
                self._sentences(said, how.gap_s / request.speed),
                how.temperature if request.temperature is None else request.temperature,
                request.speed,
                row_audio(request.response_format, rate, streamed=True, prompt_tokens=phonemes),
            )
        ]

    def encode(self, chunk: AudioChunk) -> AudioDelta:
        return encode_chunk(chunk)

    def _sentences(self, said: Sequence[Utterance], gap_s: float) -> list[Sentence]:
        """With silence after each sentence but the last."""
        gap = round(gap_s * self.config.audio.sample_rate)
        last = len(said) - 1
        return [
            Sentence(self.config.ids(each.phonemes), len(each.phonemes), gap if each.is_end and i < last else 0)
            for i, each in enumerate(said)
        ]
