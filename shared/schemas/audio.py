"""Owns the audio requests and answers: speech in OpenAI's wire format, and sounds by the images' conventions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.events import AudioFormat
from shared.schemas.common import RequestModel, ResponseModel

MAX_SOUNDS = 64

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Temperature = Annotated[float, Field(gt=0.0, le=2.0, description="spread of what is drawn; 1 is as is")]


class VoiceId(RequestModel):
    """OpenAI's other way to name a voice."""

    id: str = Field(min_length=1, max_length=256)


class SpeechRequest(RequestModel):
    """OpenAI's, and `seed` and `temperature`. A model refuses by name what it cannot vary."""

    model: str = Field(min_length=1, max_length=256)
    input: str = Field(min_length=1, max_length=4096, description="what is to be said")
    voice: Annotated[str, Field(min_length=1, max_length=256)] | VoiceId
    instructions: str | None = Field(default=None, max_length=4096, description="how it is to be said")
    response_format: AudioFormat = Field(
        default="mp3", description="pcm is 24 kHz, 16 bits, one channel; the others have the model's own rate"
    )
    speed: float = Field(default=1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"
    seed: Seed | None = None
    temperature: Temperature | None = None

    @property
    def voice_name(self) -> str:
        return self.voice if isinstance(self.voice, str) else self.voice.id


class AudioGenerationRequest(RequestModel):
    """`prompt` names a class of sounds. `seconds` bounds their length: they may end before."""

    model: str = Field(min_length=1, max_length=256)
    prompt: str = Field(min_length=1, max_length=32000)
    n: int = Field(default=1, ge=1, le=MAX_SOUNDS)
    seed: Seed | None = None
    temperature: Temperature | None = None
    seconds: float | None = Field(default=None, gt=0.0, le=60.0, description="the most that a sound may last")
    response_format: AudioFormat = "wav"
    stream: bool = False
    user: str | None = Field(default=None, max_length=512)


class AudioUsage(ResponseModel):
    """Output tokens are the model's units of work."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class Sound(ResponseModel):
    """One file. A request with its `seed`, `n` of 1 and all else alike gives it again."""

    b64_json: str
    format: AudioFormat
    seconds: float
    sample_rate: int
    seed: int


class Sounds(ResponseModel):
    created: int
    model: str
    data: list[Sound]
    usage: AudioUsage


class SpeechDeltaEvent(ResponseModel):
    """`audio` is base64 of bytes that follow those of the events before."""

    type: Literal["speech.audio.delta"]
    audio: str


class SpeechDoneEvent(ResponseModel):
    type: Literal["speech.audio.done"]
    usage: AudioUsage


class AudioDeltaEvent(ResponseModel):
    """`audio` is base64 of bytes of the `index`-th sound's file that follow those of its events before."""

    type: Literal["audio.generation.delta"]
    index: int
    audio: str


class AudioCompletedEvent(ResponseModel):
    """The `index`-th sound's file is complete."""

    type: Literal["audio.generation.completed"]
    index: int
    format: AudioFormat
    seconds: float
    sample_rate: int
    seed: int
    usage: AudioUsage
