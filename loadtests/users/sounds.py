"""Owns the people who listen: to texts that are said, and to single sounds."""

from __future__ import annotations

from typing import ClassVar

from loadtests.generator.answers import CompletedEvents, File, SpeechEvents, WholeList
from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest

MOST = 2


class Speech(Modality):
    """A file as it is made, or its pieces as events: half and half."""

    task: ClassVar[str] = "speech"
    path: ClassVar[str] = "/v1/audio/speech"
    piece: ClassVar[str] = "sound"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        text, voice = wish.rng.choice(wish.inputs.speech), wish.inputs.voice
        if wish.streams():
            request = SpeechRequest(model=wish.target.model, input=text, voice=voice, stream_format="sse")
            return Ask(request, SpeechEvents())
        return Ask(SpeechRequest(model=wish.target.model, input=text, voice=voice), File())


class Sound(Modality):
    task: ClassVar[str] = "sound"
    path: ClassVar[str] = "/v1/audio/generations"
    piece: ClassVar[str] = "sound"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        prompt, count = wish.rng.choice(wish.inputs.sound), wish.rng.randint(1, MOST)
        if wish.streams():
            request = AudioGenerationRequest(model=wish.target.model, prompt=prompt, n=count, stream=True)
            return Ask(request, CompletedEvents(expected=count))
        request = AudioGenerationRequest(model=wish.target.model, prompt=prompt, n=count)
        return Ask(request, WholeList("data", count))


class SpeechUser(LoadUser):
    asks_for = Speech.task


class SoundUser(LoadUser):
    asks_for = Sound.task
