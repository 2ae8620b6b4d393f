"""A fleet with a model of sound, and a script that makes sound: files that are bytes alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from shared.calls import Call
from shared.config.models import FleetConfig
from shared.events import Accepted, AudioDelta, Finished, RowEvent
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest
from tests.unit.gateway.fakes import FLEET, MODEL, FakeDispatcher, Gateway, make_gateway, report, speak

HORN = "horn"
PIECES = (b"RIFF", b"", b"\x00\xff\n", b"end")  # of every file; a coder may hold a piece back
SECONDS, UNITS, WORDS = 0.5, 100.0, 3
FLEET_WITH_SOUND = FleetConfig.model_validate(
    {
        "services": [
            *(service.model_dump(mode="json", exclude_unset=True) for service in FLEET.services),
            {
                "name": "sound",
                "family": "plugin",
                "models": [
                    {
                        "id": HORN,
                        "source": "file:///nowhere",
                        "sampler": "nowhere:Sampler",
                        "tasks": ["sound", "speech"],
                    }
                ],
            },
        ]
    }
)


def piece(body: SpeechRequest | AudioGenerationRequest, row: int, number: int) -> RowEvent:
    """Row r's seed is r; its first piece is followed by its number, so that rows differ."""
    data = PIECES[number] + (bytes([row]) if number == 0 else b"")
    return RowEvent(row, AudioDelta(data, body.response_format, 8000, SECONDS * (number + 1) / len(PIECES), row, WORDS))


async def sound(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    """Piece by piece, the last row first."""
    body = call.body
    assert isinstance(body, SpeechRequest | AudioGenerationRequest)
    rows = body.n if isinstance(body, AudioGenerationRequest) else 1
    yield [RowEvent(0, Accepted(rows))]
    for number in range(len(PIECES)):
        yield [piece(body, row, number) for row in reversed(range(rows))]
    yield [RowEvent(row, Finished("stop", UNITS)) for row in reversed(range(rows))]


async def speak_or_sound(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    script = sound if isinstance(call.body, SpeechRequest | AudioGenerationRequest) else speak
    async for batch in script(call):
        yield batch


def audio_gateway(**options: Any) -> Gateway:
    """Both models are loaded."""
    known = {"chat": [report(MODEL)], "sound": [report(HORN, service="sound")]}
    return make_gateway(FakeDispatcher(speak_or_sound, known=known), fleet=FLEET_WITH_SOUND, **options)
