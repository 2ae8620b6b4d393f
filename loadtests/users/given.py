"""Owns the things that models are asked about: images, records and molecules that they make themselves, and texts.

What a model makes is of the size and the columns that it takes. Asked for once, before a test: it also wakes the model.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from PIL import Image

from loadtests.generator.answers import WholeList
from loadtests.generator.exchange import Client, Unreachable
from loadtests.prompts import QUESTIONS, Inputs, text_of
from loadtests.users.asks import Target, Thing
from shared.schemas.common import ModelCard, RequestModel
from shared.schemas.images import ImageGenerationRequest
from shared.schemas.molecules import MoleculeGenerationRequest
from shared.schemas.records import RecordGenerationRequest

THINGS = 4
WAKING_S = 300.0  # a cold model loads first, and is refused meanwhile
AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class _Making:
    """How a task makes things: the request, and each thing out of an item of the answer's `data`."""

    path: str
    request: Callable[[str, Inputs], RequestModel]
    thing: Callable[[dict[str, Any]], Thing]


def _image_request(model: str, inputs: Inputs) -> RequestModel:
    return ImageGenerationRequest(model=model, prompt=inputs.image[0], n=THINGS)


def _record_request(model: str, _: Inputs) -> RequestModel:
    return RecordGenerationRequest(model=model, n=THINGS)


def _molecule_request(model: str, inputs: Inputs) -> RequestModel:
    return MoleculeGenerationRequest(
        model=model, n=THINGS, scaffold=inputs.scaffold[0], valid_only=True, properties=False
    )


# By task: what a model makes is what it may be asked about.
MAKING: Mapping[str, _Making] = {
    "image": _Making(
        "/v1/images/generations", _image_request, lambda item: f"data:image/png;base64,{item['b64_json']}"
    ),
    "record": _Making("/v1/records/generations", _record_request, lambda item: item["record"]),
    "molecule": _Making("/v1/molecules/generations", _molecule_request, lambda item: item["smiles"]),
}


class Giver:
    """Asks each model once."""

    def __init__(self, client: Client, cards: Sequence[ModelCard], inputs: Inputs) -> None:
        self._client = client
        self._inputs = inputs
        self._makers = {card.id: next((MAKING[task] for task in card.tasks if task in MAKING), None) for card in cards}
        self._made: dict[str, tuple[Thing, ...]] = {}

    def give(self, task: str, card: ModelCard, target: Target) -> Target:
        """The target with things to ask it about. Raises Unreachable, also of a model that makes none."""
        if card.id not in self._made:
            self._made[card.id] = self._things(card)
        given = self._made[card.id]
        masks = tuple(half_mask(str(image)) for image in given) if task == "edit" else ()
        return target.model_copy(update={"given": given, "masks": masks})

    def _things(self, card: ModelCard) -> tuple[Thing, ...]:
        making = self._makers[card.id]
        if making is not None:
            return self._make(making, card.id)
        if "text" in card.modalities:
            rng = Random(0)
            return (*QUESTIONS[:THINGS], *(text_of(length, rng) for length in (16, 32, 64, 128)))
        raise Unreachable(f"it makes none of {', '.join(MAKING)}, and takes no texts")

    def _make(self, making: _Making, model: str) -> tuple[Thing, ...]:
        body = making.request(model, self._inputs).model_dump_json(exclude_unset=True).encode()
        until = time.monotonic() + WAKING_S
        while True:
            reader = _Kept("data", THINGS)
            reply = self._client.post(making.path, body, reader)
            if reply.verdict == "answered":
                return tuple(making.thing(item) for item in reader.items)
            if reply.verdict != "refused" or time.monotonic() >= until:
                raise Unreachable(f"POST {making.path}: {reply.cause}")
            time.sleep(AGAIN_S)


class _Kept(WholeList):
    """A list whose items are of use."""

    __slots__ = ()

    @property
    def items(self) -> list[dict[str, Any]]:
        return json.loads(b"".join(self._data))[self.key]


def half_mask(image: str) -> str:
    """Of a `data:` URL: one that lets the lower half change."""
    with Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))) as opened:
        width, height = opened.size
    mask = Image.new("L", (width, height), 255)
    mask.paste(0, (0, height // 2, width, height))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
