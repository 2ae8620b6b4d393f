"""Owns what clients may ask: words said one after the other, and sounds of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from services.families.autoregressive.model import WaveNetConfig
from services.families.autoregressive.params import Turn, WaveParams
from services.families.autoregressive.vocabulary import Vocabulary
from services.nn.audio import AudioChunk, encode_chunk, row_audio
from services.nn.rng import image_seed
from services.nn.speech import check_no_instructions, check_voice
from shared.errors import InvalidRequest
from shared.events import AudioDelta
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest


@dataclass(frozen=True, slots=True)
class Speaking:
    """How a model of words is asked: by what name, at what temperature if nothing is said, with what pause between
    words, in seconds, and how many words at most."""

    model: str
    temperature: float
    gap_s: float
    most_words: int


@dataclass(frozen=True, slots=True)
class SpeechTask:
    """One row: the input's words, one after the other."""

    encodes_slowly: ClassVar[bool] = True

    config: WaveNetConfig
    vocabulary: Vocabulary
    speaking: Speaking

    def prepare(self, request: SpeechRequest, salt: str = "") -> list[WaveParams]:
        self._refuse_what_cannot_vary(request)
        how = self.speaking
        labels = self.vocabulary.spoken(request.input, how.most_words, "input")
        turns = [Turn(label, self.config.sounds[label].frames) for label in labels]
        output = row_audio(request.response_format, self.config.rate, streamed=True, prompt_tokens=len(labels))
        return [
            WaveParams(
                "speech",
                image_seed(request.seed, 0),
                turns,
                how.temperature if request.temperature is None else request.temperature,
                round(how.gap_s * self.config.rate),
                output,
            )
        ]

    def encode(self, chunk: AudioChunk) -> AudioDelta:
        return encode_chunk(chunk)

    def _refuse_what_cannot_vary(self, request: SpeechRequest) -> None:
        """Raises InvalidRequest: another voice, another speed, instructions."""
        model = self.speaking.model
        check_voice(request, model=model, voice=self.config.voice)
        if request.speed != 1:
            message = f"Model '{model}' speaks at the speed of its recordings, 1, alone; got {request.speed:g}."
            raise InvalidRequest(message, param="speed")
        check_no_instructions(request, model=model)


@dataclass(frozen=True, slots=True)
class SoundTask:
    """`n` sounds of the class that the prompt names, each a row."""

    encodes_slowly: ClassVar[bool] = True

    config: WaveNetConfig
    vocabulary: Vocabulary
    temperature: float

    def prepare(self, request: AudioGenerationRequest, salt: str = "") -> list[WaveParams]:
        label = self.vocabulary.named(request.prompt, "prompt")
        turns = [Turn(label, self._frames(label, request.seconds))]
        temperature = self.temperature if request.temperature is None else request.temperature
        return [
            WaveParams(
                "sound",
                image_seed(request.seed, i),
                turns,
                temperature,
                0,
                row_audio(request.response_format, self.config.rate, streamed=request.stream, prompt_tokens=1),
            )
            for i in range(request.n)
        ]

    def encode(self, chunk: AudioChunk) -> AudioDelta:
        return encode_chunk(chunk)

    def _frames(self, label: int, seconds: float | None) -> int:
        """The most that a sound may have, by the class and by the request."""
        longest = self.config.sounds[label].frames
        if seconds is None:
            return longest
        return max(1, min(longest, int(seconds * self.config.rate / self.config.frame)))
