"""Owns the image operations: generations, edits, variations, interpolations."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from services.gateway.answer_docs import call_responses, form_or_json_body, json_body
from services.gateway.calls import Desk, answered_by, json_answer
from services.gateway.image_wire import Gallery, ImageCounts, ImageEnvelope, ImageStream
from services.gateway.state import GatewayState
from shared.schemas.image_results import CompletedImageEvent, Images, Interpolation, PartialImageEvent
from shared.schemas.images import (
    FILE_FIELDS,
    ImageCall,
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    InterpolationRequest,
)

EVENTS = (PartialImageEvent, CompletedImageEvent)


def image_router(state: GatewayState) -> APIRouter:
    """As the text operations, every body is read by hand; the two that take a picture take it in a form as well."""
    router = APIRouter(tags=["images"])
    desk = Desk(state)

    @router.post(
        "/v1/images/generations",
        summary="Draw what a prompt describes",
        responses=call_responses(Images, chunk=EVENTS),
        openapi_extra=json_body(ImageGenerationRequest),
    )
    async def generations(request: Request) -> Response:
        return await _draw(desk, state, request, ImageGenerationRequest, task="image", kind="image_generation")

    @router.post(
        "/v1/images/edits",
        summary="Draw a part of an image anew, or all of it",
        responses=call_responses(Images, chunk=EVENTS),
        openapi_extra=form_or_json_body(ImageEditRequest),
    )
    async def edits(request: Request) -> Response:
        return await _draw(desk, state, request, ImageEditRequest, task="edit", kind="image_edit", files=True)

    @router.post(
        "/v1/images/variations",
        summary="Draw images near the given one",
        responses=call_responses(Images, chunk=EVENTS),
        openapi_extra=form_or_json_body(ImageVariationRequest),
    )
    async def variations(request: Request) -> Response:
        return await _draw(
            desk, state, request, ImageVariationRequest, task="variation", kind="image_variation", files=True
        )

    @router.post(
        "/v1/interpolations",
        summary="Draw the way from one image to another",
        responses=call_responses(Interpolation),
        openapi_extra=json_body(InterpolationRequest),
    )
    async def interpolations(request: Request) -> Response:
        body, wishes = await desk.read(request, InterpolationRequest, limit=state.settings.max_image_body)
        errand = await desk.admit(
            request, body, wishes, model=body.model, task="interpolation", stream=False, is_bulky=True
        )
        gallery = Gallery()
        await desk.collect(request, errand, gallery.take, gallery.counts)
        cover = ImageEnvelope("interpolation", int(state.tempo.now()), answered_by(request))
        return json_answer(await asyncio.to_thread(gallery.frames, cover))

    return router


async def _draw(
    desk: Desk,
    state: GatewayState,
    request: Request,
    kind_of_body: type[ImageCall],
    *,
    task: str,
    kind: str,
    files: bool = False,
) -> Response:
    """Answer a call whose rows are images, whole or as a stream. Raises what `Desk` raises."""
    limit, fields = (state.settings.max_image_body, FILE_FIELDS) if files else (None, frozenset[str]())
    body, wishes = await desk.read(request, kind_of_body, limit=limit, files=fields)
    errand = await desk.admit(request, body, wishes, model=body.model, task=task, stream=body.stream, is_bulky=True)
    created = int(state.tempo.now())
    if body.stream:
        counts = ImageCounts()
        return desk.event_stream(errand, lambda model: ImageStream(ImageEnvelope(kind, created, model), counts), counts)
    gallery = Gallery()
    await desk.collect(request, errand, gallery.take, gallery.counts)
    cover = ImageEnvelope(kind, created, answered_by(request))
    # Base64 of some megabytes takes milliseconds: a thread shares them with the other requests.
    return json_answer(await asyncio.to_thread(gallery.answer, cover))
