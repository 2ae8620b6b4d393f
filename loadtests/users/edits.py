"""Owns the people who change images that there are: masked parts anew, variations, reconstructions."""

from __future__ import annotations

from typing import ClassVar

from loadtests.users.asks import Ask, Modality, Wish
from loadtests.users.base import LoadUser
from loadtests.users.images import ask_for_images, half_streamed
from loadtests.users.lists import ask_for_list, some_given
from shared.schemas.images import ImageEditRequest, ImageVariationRequest
from shared.schemas.reconstructions import ReconstructionRequest

MOST = 8


class Edit(Modality):
    """A masked part of an image is drawn anew. Half of the requests stream, with previews."""

    task: ClassVar[str] = "edit"
    path: ClassVar[str] = "/v1/images/edits"
    piece: ClassVar[str] = "preview"
    about_given: ClassVar[bool] = True

    @staticmethod
    def draw(wish: Wish) -> Ask:
        number = wish.rng.randrange(len(wish.target.masks))
        image, mask = str(wish.target.given[number]), wish.target.masks[number]
        return ask_for_images(
            ImageEditRequest(model=wish.target.model, image=image, mask=mask, prompt="", **half_streamed(wish))
        )


class Variation(Modality):
    task: ClassVar[str] = "variation"
    path: ClassVar[str] = "/v1/images/variations"
    piece: ClassVar[str] = "preview"
    about_given: ClassVar[bool] = True

    @staticmethod
    def draw(wish: Wish) -> Ask:
        image = str(wish.rng.choice(wish.target.given))
        return ask_for_images(ImageVariationRequest(model=wish.target.model, image=image, **half_streamed(wish)))


class Reconstruction(Modality):
    task: ClassVar[str] = "reconstruction"
    path: ClassVar[str] = "/v1/reconstructions"
    piece: ClassVar[str] = "item"
    about_given: ClassVar[bool] = True

    @staticmethod
    def draw(wish: Wish) -> Ask:
        given = some_given(wish, most=MOST)
        return ask_for_list(ReconstructionRequest(model=wish.target.model, input=given, stream=wish.streams()))


class EditUser(LoadUser):
    asks_for = Edit.task


class VariationUser(LoadUser):
    asks_for = Variation.task


class ReconstructionUser(LoadUser):
    asks_for = Reconstruction.task
