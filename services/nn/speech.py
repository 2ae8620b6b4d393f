"""Owns what every model of speech refuses alike. Never sees a sample."""

from __future__ import annotations

from shared.errors import InvalidRequest
from shared.schemas.audio import SpeechRequest


def check_voice(request: SpeechRequest, *, model: str, voice: str) -> None:
    """Raises InvalidRequest for a voice that is not the model's only one."""
    if request.voice_name != voice:
        message = f"Model '{model}' has the voice '{voice}' alone; got '{request.voice_name}'."
        raise InvalidRequest(message, param="voice", code="unknown_voice")


def check_no_instructions(request: SpeechRequest, *, model: str) -> None:
    """Raises InvalidRequest for instructions, which the model cannot follow."""
    if request.instructions is not None and request.instructions.strip():
        raise InvalidRequest(f"Model '{model}' follows no instructions.", param="instructions")
