"""Owns the audio operations: speech, as OpenAI has it, and single sounds."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from services.gateway.answer_docs import call_responses, file_responses, json_body
from services.gateway.audio_wire import AudioCounts, Shelf, SoundEvents, SpeechEvents, SpeechFile, file_framing
from services.gateway.calls import Desk, answered_by, json_answer
from services.gateway.state import GatewayState
from shared.schemas.audio import (
    AudioCompletedEvent,
    AudioDeltaEvent,
    AudioGenerationRequest,
    Sounds,
    SpeechDeltaEvent,
    SpeechDoneEvent,
    SpeechRequest,
)


def audio_router(state: GatewayState) -> APIRouter:
    """As the text operations, every body is read by hand."""
    router = APIRouter(tags=["audio"])
    desk = Desk(state)

    @router.post(
        "/v1/audio/speech",
        summary="Say a text",
        response_class=Response,
        responses=file_responses((SpeechDeltaEvent, SpeechDoneEvent)),
        openapi_extra=json_body(SpeechRequest),
    )
    async def speech(request: Request) -> Response:
        body, wishes = await desk.read(request, SpeechRequest)
        # Either way it is sent as it is made: a client that wants it whole reads to its end.
        errand = await desk.admit(request, body, wishes, model=body.model, task="speech", stream=True)
        counts = AudioCounts()
        if body.stream_format == "sse":
            return desk.event_stream(errand, lambda _: SpeechEvents(counts), counts)
        framing = file_framing(body.response_format)
        return desk.event_stream(errand, lambda _: SpeechFile(counts), counts, framing=framing)

    @router.post(
        "/v1/audio/generations",
        summary="Make the sounds that a prompt names",
        responses=call_responses(Sounds, chunk=(AudioDeltaEvent, AudioCompletedEvent)),
        openapi_extra=json_body(AudioGenerationRequest),
    )
    async def generations(request: Request) -> Response:
        body, wishes = await desk.read(request, AudioGenerationRequest)
        errand = await desk.admit(
            request, body, wishes, model=body.model, task="sound", stream=body.stream, is_bulky=not body.stream
        )
        created = int(state.tempo.now())
        if body.stream:
            counts = AudioCounts()
            return desk.event_stream(errand, lambda _: SoundEvents(counts), counts)
        shelf = Shelf()
        await desk.collect(request, errand, shelf.take, shelf.counts)
        return json_answer(await asyncio.to_thread(shelf.answer, created, answered_by(request)))

    return router
