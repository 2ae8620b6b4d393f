"""A fleet with a service of images, and a script that draws: pictures that are bytes alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from shared.calls import Call
from shared.config.models import FleetConfig
from shared.events import Accepted, Finished, ImageDelta, RowEvent
from shared.schemas.images import ImageCall, ImageRequest, InterpolationRequest
from tests.unit.gateway.fakes import FLEET, MODEL, FakeDispatcher, Gateway, make_gateway, report, speak

PAINTER = "painter"
STEPS = 20
# As short as a PNG can be: 1x1, one grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63680000008200"
    "8177cd72b60000000049454e44ae426082"
)
URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
FLEET_WITH_IMAGES = FleetConfig.model_validate(
    {
        "services": [
            *(service.model_dump(mode="json", exclude_unset=True) for service in FLEET.services),
            {"name": "images", "family": "diffusion", "models": [{"id": PAINTER, "source": "builtin://painter"}]},
        ]
    }
)


def delta(*, step: int = STEPS, seed: int = 7, data: bytes = PNG, is_preview: bool = False) -> ImageDelta:
    return ImageDelta(
        data, hashlib.sha256(data).hexdigest(), "png", 32, 32, seed, step, STEPS, is_preview, prompt_tokens=3
    )


async def draw(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    """Previews as asked for, then an image for every row, of a seed that follows from the row."""
    body: ImageRequest = call.body  # type: ignore[assignment]
    rows = body.frames if isinstance(body, InterpolationRequest) else body.n
    # A frame draws from both ends; what else is random has one seed for all of them.
    seeds = [body.seed or 0] * rows if isinstance(body, InterpolationRequest) else range(rows)
    previews = (body.partial_images or 0) if isinstance(body, ImageCall) else 0
    yield [RowEvent(0, Accepted(rows))]
    for number in range(previews):
        yield [RowEvent(row, delta(step=number + 1, seed=seeds[row], is_preview=True)) for row in range(rows)]
    for row in reversed(range(rows)):
        yield [RowEvent(row, delta(seed=seeds[row])), RowEvent(row, Finished("stop", STEPS))]


async def speak_or_draw(call: Call) -> AsyncGenerator[list[RowEvent], None]:
    async for batch in draw(call) if isinstance(call.body, ImageRequest) else speak(call):
        yield batch


def image_gateway(**options: Any) -> Gateway:
    """Both models are loaded."""
    known = {"chat": [report(MODEL)], "images": [report(PAINTER, service="images")]}
    dispatcher = FakeDispatcher(speak_or_draw, known=known)
    return make_gateway(dispatcher, fleet=FLEET_WITH_IMAGES, **options)
