"""The official client's image calls, with strict response validation, over a real socket."""

from __future__ import annotations

import base64

import openai
import pytest

from tests.unit.gateway.fakes import Gateway
from tests.unit.gateway.image_fakes import PAINTER, PNG, STEPS, image_gateway


@pytest.fixture
def gateway() -> Gateway:
    return image_gateway()


async def test_strict_validation_accepts_images(client: openai.AsyncOpenAI) -> None:
    answer = await client.images.generate(model=PAINTER, prompt="a red heart", n=2, extra_body={"seed": 5, "steps": 20})
    assert answer.data is not None
    assert [base64.b64decode(image.b64_json or "") for image in answer.data] == [PNG, PNG]
    assert [(image.model_extra or {})["seed"] for image in answer.data] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2 * STEPS


async def test_strict_validation_accepts_streamed_images(client: openai.AsyncOpenAI) -> None:
    stream = await client.images.generate(model=PAINTER, prompt="a red heart", stream=True, partial_images=3)
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    previews = [event for event in events if event.type == "image_generation.partial_image"]
    assert [event.partial_image_index for event in previews] == [0, 1, 2]


async def test_strict_validation_accepts_streamed_edits(client: openai.AsyncOpenAI) -> None:
    stream = await client.images.edit(
        model=PAINTER, prompt="a red heart", image=PNG, mask=("m.png", PNG), stream=True, partial_images=1
    )
    assert [event.type async for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


async def test_strict_validation_accepts_edits_and_variations(client: openai.AsyncOpenAI) -> None:
    options = {"steps": 10, "strength": 0.4}
    edited = await client.images.edit(model=PAINTER, prompt="x", image=[("i.png", PNG)], n=2, extra_body=options)
    with pytest.warns(DeprecationWarning, match="deprecated"):  # the client's own
        varied = await client.images.create_variation(model=PAINTER, image=PNG, n=2, response_format="b64_json")
    for answer in (edited, varied):
        assert answer.data is not None
        assert len(answer.data) == 2


async def test_several_images_to_edit_are_refused_by_name(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.edit(model=PAINTER, prompt="x", image=[("a.png", PNG), ("b.png", PNG)])
    assert caught.value.param == "image"
