"""Owns the people who have images drawn, and the ways between two of them."""

from __future__ import annotations

from typing import Any, ClassVar

from loadtests.generator.answers import CompletedEvents, WholeList
from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from shared.schemas.images import ImageCall, ImageGenerationRequest, InterpolationEnd, InterpolationRequest

PREVIEWS = 2
FRAMES = (4, 8)


def ask_for_images(request: ImageCall) -> Ask:
    return Ask(request, CompletedEvents(expected=request.n) if request.stream else WholeList("data", request.n))


def half_streamed(wish: Wish) -> dict[str, Any]:
    """What a request for images says if it is one of those that stream."""
    return {"stream": True, "partial_images": PREVIEWS} if wish.streams() else {}


class Image(Modality):
    """Half of the requests stream, with previews."""

    task: ClassVar[str] = "image"
    path: ClassVar[str] = "/v1/images/generations"
    piece: ClassVar[str] = "preview"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        prompt = wish.rng.choice(wish.inputs.image)
        return ask_for_images(ImageGenerationRequest(model=wish.target.model, prompt=prompt, **half_streamed(wish)))


class Interpolation(Modality):
    task: ClassVar[str] = "interpolation"
    path: ClassVar[str] = "/v1/interpolations"
    piece: ClassVar[str] = "frame"
    about_given: ClassVar[bool] = False

    @staticmethod
    def draw(wish: Wish) -> Ask:
        start, end = (InterpolationEnd(seed=wish.rng.getrandbits(32)) for _ in range(2))
        frames = wish.rng.randint(*FRAMES)
        request = InterpolationRequest(model=wish.target.model, start=start, end=end, frames=frames)
        return Ask(request, WholeList("frames", frames))


class ImageUser(LoadUser):
    asks_for = Image.task


class InterpolationUser(LoadUser):
    asks_for = Interpolation.task
