"""The image operations: what they answer whole and streamed, what they ask of a replica, what they refuse."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from services.gateway.image_wire import ImageStream
from shared.errors import Overloaded
from shared.events import Accepted, Failed, Finished, ImageDelta, RowEvent
from shared.schemas.image_results import CompletedImageEvent, Images, Interpolation, PartialImageEvent
from shared.schemas.images import ImageEditRequest, ImageGenerationRequest, ImageVariationRequest, InterpolationRequest
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.fakes import ACCEPTED, MODEL, Gateway, events_of, fail_with, play
from tests.unit.gateway.image_fakes import PAINTER, PNG, STEPS, URL, delta, image_gateway

GENERATIONS, EDITS, VARIATIONS = "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"
INTERPOLATIONS = "/v1/interpolations"
FILE = ("heart.png", PNG, "image/png")


@pytest.fixture
def gateway() -> Gateway:
    return image_gateway()


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": PAINTER, "prompt": "a red heart", **fields}


async def post(gateway: Gateway, path: str, **options: Any) -> httpx.Response:
    async with gateway.client() as client:
        return await client.post(path, **options)


async def test_a_plain_answer_tells_what_makes_each_image_again(gateway: Gateway) -> None:
    response = await post(gateway, GENERATIONS, json=asked(n=3, seed=5, steps=20))
    answer = Images.model_validate_json(response.content)
    assert [picture.seed for picture in answer.data] == [0, 1, 2]
    assert [base64.b64decode(picture.b64_json) for picture in answer.data] == [PNG] * 3
    assert {picture.sha256 for picture in answer.data} == {hashlib.sha256(PNG).hexdigest()}
    assert (answer.created, answer.size, answer.output_format) == (1_700_000_000, "32x32", "png")


async def test_usage_counts_the_prompt_once_and_every_unit_of_work(gateway: Gateway) -> None:
    usage = (await post(gateway, GENERATIONS, json=asked(n=3))).json()["usage"]
    assert usage == {
        "input_tokens": 3,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
        "output_tokens": 3 * STEPS,
        "total_tokens": 3 + 3 * STEPS,
    }


@pytest.mark.parametrize(
    ("path", "kind"), [(GENERATIONS, "image_generation"), (EDITS, "image_edit"), (VARIATIONS, "image_variation")]
)
async def test_a_stream_has_each_images_previews_and_then_the_image(gateway: Gateway, path: str, kind: str) -> None:
    image = {} if path == GENERATIONS else {"image": URL}
    response = await post(gateway, path, json=asked(n=2, stream=True, partial_images=2, **image))
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done = events_of(response.text)
    partials = [PartialImageEvent.model_validate(event) for event in events[:4]]
    images = [CompletedImageEvent.model_validate(event) for event in events[4:]]
    assert done == "[DONE]"
    assert [(event.index, event.partial_image_index, event.step) for event in partials] == [
        (0, 0, 1),
        (1, 0, 1),
        (0, 1, 2),
        (1, 1, 2),
    ]
    assert [(event.index, event.seed, event.usage.output_tokens) for event in images] == [(1, 1, STEPS), (0, 0, STEPS)]
    assert {event.type for event in partials} == {f"{kind}.partial_image"}
    assert {event.type for event in images} == {f"{kind}.completed"}
    assert images[0].sha256 == hashlib.sha256(base64.b64decode(images[0].b64_json)).hexdigest()


async def test_frames_come_in_order_with_their_positions(gateway: Gateway) -> None:
    body = {"model": PAINTER, "start": {"seed": 1}, "end": {"seed": 2, "prompt": "x"}, "frames": 5, "seed": 9}
    answer = Interpolation.model_validate_json((await post(gateway, INTERPOLATIONS, json=body)).content)
    assert [frame.position for frame in answer.frames] == [0, 0.25, 0.5, 0.75, 1]
    assert (answer.model, answer.size, answer.usage.output_tokens) == (PAINTER, "32x32", 5 * STEPS)
    assert answer.seed == 9


@pytest.mark.parametrize(
    ("path", "body", "task", "schema"),
    [
        (GENERATIONS, asked(), "image", ImageGenerationRequest),
        (EDITS, asked(image=URL), "edit", ImageEditRequest),
        (VARIATIONS, {"model": PAINTER, "image": URL}, "variation", ImageVariationRequest),
        (
            INTERPOLATIONS,
            {"model": PAINTER, "start": {"seed": 1}, "end": {"seed": 2}},
            "interpolation",
            InterpolationRequest,
        ),
    ],
)
async def test_each_operation_asks_for_its_task_and_takes_images_one_by_one(
    gateway: Gateway, path: str, body: dict[str, Any], task: str, schema: type
) -> None:
    assert (await post(gateway, path, json=body)).status_code == 200
    ((service, call),) = gateway.dispatcher.calls
    assert (service, call.model, call.task) == ("images", PAINTER, task)
    assert isinstance(call.body, schema)
    assert call.flush_s == 0, "all images in one message may exceed what a message holds"


async def test_a_form_asks_for_what_the_same_json_asks_for(gateway: Gateway) -> None:
    fields = {"n": 2, "seed": -3, "steps": 10, "guidance_scale": 2.5, "strength": 0.5, "stream": True}
    texts = {name: "true" if value is True else str(value) for name, value in fields.items()}
    in_json = await post(gateway, EDITS, json=asked(image=URL, mask=URL, partial_images=1, **fields))
    in_form = await post(
        gateway, EDITS, data=asked(partial_images="1", **texts), files={"image[]": FILE, "mask": ("m.png", PNG)}
    )
    assert (in_json.status_code, in_form.status_code) == (200, 200)
    assert in_json.text == in_form.text
    one, two = (call.body for _, call in gateway.dispatcher.calls)
    assert isinstance(two, ImageEditRequest)
    assert two.mask is not None
    assert two.mask.endswith(";base64," + base64.b64encode(PNG).decode())
    assert two.model_copy(update={"mask": URL}) == one


async def test_text_in_a_form_keeps_every_character(gateway: Gateway) -> None:
    prompt = 'Herz ♥ "rot"\r\n--x; naïve'
    await post(gateway, EDITS, data=asked(prompt=prompt), files={"image": FILE})
    (call,) = (call for _, call in gateway.dispatcher.calls)
    assert isinstance(call.body, ImageEditRequest)
    assert call.body.prompt == prompt


@pytest.mark.parametrize(
    ("content_type", "told"),
    [
        ("image/png", "image/png"),
        ("Image/PNG; name=x", "image/png"),
        ("nonsense", "application/octet-stream"),
        ('text/html"><script>', "application/octet-stream"),
    ],
)
async def test_the_type_that_a_file_declares_goes_along_where_it_is_one(
    gateway: Gateway, content_type: str, told: str
) -> None:
    await post(gateway, VARIATIONS, data={"model": PAINTER}, files={"image": ("x", PNG, content_type)})
    (call,) = (call for _, call in gateway.dispatcher.calls)
    assert isinstance(call.body, ImageVariationRequest)
    assert call.body.image.startswith(f"data:{told};base64,")


def form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> dict[str, Any]:
    """A form by hand: the rest of each part's Content-Disposition, and its bytes."""
    body = b"".join(
        b"--x\r\ncontent-disposition: form-data" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts
    )
    return {"content": body + end, "headers": {"content-type": "multipart/form-data; boundary=x"}}


MODEL_PART = ('; name="model"', PAINTER.encode())
IMAGE_PART = ('; name="image"; filename="i"', PNG)
PROMPT_PART = ('; name="prompt"', b"x")


@pytest.mark.parametrize(
    ("request_", "param", "code", "words"),
    [
        (form(MODEL_PART, IMAGE_PART, IMAGE_PART), "image", "invalid_value", "once"),
        (form(MODEL_PART, MODEL_PART), "model", "invalid_value", "once"),
        (form(MODEL_PART, IMAGE_PART, PROMPT_PART, ('; name="colour"', b"red")), "colour", "unknown_parameter", ""),
        (form(MODEL_PART, IMAGE_PART, PROMPT_PART, ('; name="n"', b"two")), "n", "invalid_value", "integer"),
        (form(MODEL_PART, IMAGE_PART, PROMPT_PART, ('; name="n"', b"0")), "n", "invalid_value", "greater than"),
        (form(MODEL_PART, IMAGE_PART, PROMPT_PART, ('; name="stream"', b"perhaps")), "stream", "invalid_value", ""),
        (form(MODEL_PART, IMAGE_PART), "prompt", "missing_required_parameter", "required"),
        (form(MODEL_PART, PROMPT_PART), "image", "missing_required_parameter", "required"),
        (form(MODEL_PART, IMAGE_PART, ('; name="prompt"; filename="p"', b"x")), "prompt", "invalid_value", "no file"),
        (form(MODEL_PART, IMAGE_PART, ('; name="prompt"', b"\xff")), "prompt", "invalid_value", "UTF-8"),
        (form(MODEL_PART, IMAGE_PART, ('; name="prompt"', b"x" * 2**21)), "prompt", "invalid_value", "as a file"),
        (form(*[(f'; name="f{i}"', b"") for i in range(100)]), None, "invalid_form", "at most 64 parts"),
        (form(MODEL_PART, end=b""), None, "invalid_form", "last boundary"),
        (form(("", b"x")), None, "invalid_form", "no name"),
        ({**form(), "content": b"nonsense"}, None, "invalid_form", ""),
        ({**form(), "headers": {"content-type": "multipart/form-data"}}, None, "invalid_form", "boundary"),
        (
            {**form(), "headers": {"content-type": "multipart/form-data; boundary=" + "x" * 300}},
            None,
            "invalid_form",
            "",
        ),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused_by_path_and_code(
    gateway: Gateway, request_: dict[str, Any], param: str | None, code: str, words: str
) -> None:
    response = await post(gateway, EDITS, **request_)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)
    assert words in error["message"]
    assert gateway.dispatcher.calls == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": "2"}, "n"),
        ({"size": "0x32"}, "size"),
        ({"size": "big"}, "size"),
        ({"steps": 0}, "steps"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"solver": "guess"}, "solver"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"partial_images": 3}, "partial_images"),
        ({"partial_images": 17, "stream": True}, "partial_images"),
        ({"background": "transparent"}, "background"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "x" * 40_000}, "prompt"),
        ({"strength": 0.5}, "strength"),
    ],
)
async def test_a_bad_field_is_refused_by_name(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    response = await post(gateway, GENERATIONS, json=asked(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert gateway.dispatcher.calls == []


@pytest.mark.parametrize("path", [GENERATIONS, INTERPOLATIONS])
async def test_only_operations_that_take_an_image_take_a_form(gateway: Gateway, path: str) -> None:
    response = await post(gateway, path, data=asked(), files={"image": FILE})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(("name", "value"), [("content-type", "text/plain"), ("content-encoding", "gzip")])
async def test_other_types_and_compressed_forms_are_refused(gateway: Gateway, name: str, value: str) -> None:
    request = form(MODEL_PART, IMAGE_PART, PROMPT_PART)
    response = await post(gateway, EDITS, **{**request, "headers": {**request["headers"], name: value}})
    assert (response.status_code, response.json()["error"]["param"]) == (415, name)


async def test_images_may_be_larger_than_texts_and_have_a_limit_of_their_own() -> None:
    gateway = image_gateway(max_body=1000, max_image_body=4000)
    file = {"image": ("x.png", bytes(2000))}
    assert (await post(gateway, VARIATIONS, data={"model": PAINTER}, files=file)).status_code == 200
    file = {"image": ("x.png", io.BytesIO(bytes(4001)))}
    assert (await post(gateway, VARIATIONS, data={"model": PAINTER}, files=file)).status_code == 413
    assert (await post(gateway, GENERATIONS, json=asked(prompt="x" * 1000))).status_code == 413


async def test_a_model_without_the_task_says_what_it_does(gateway: Gateway) -> None:
    error = (await post(gateway, GENERATIONS, json=asked(model=MODEL))).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_task", "model")
    assert "chat" in error["message"]
    error = (await post(gateway, "/v1/chat/completions", json=asked(messages=[]))).json()["error"]
    assert error["param"] == "messages"


async def test_a_replicas_refusal_keeps_its_status_even_for_a_stream(gateway: Gateway) -> None:
    for stream in (False, True):
        gateway.dispatcher.default = fail_with(Failed.of(Overloaded("full", retry_after=1)))
        response = await post(gateway, GENERATIONS, json=asked(stream=stream))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "server_is_overloaded")


async def test_a_stream_that_fails_after_a_preview_is_cut_without_done(gateway: Gateway, serve: Serve) -> None:
    preview = [RowEvent(0, delta(step=1, is_preview=True))]
    gateway.dispatcher.default = play(ACCEPTED, preview, [RowEvent(0, Failed.of(Overloaded("lost")))])
    received: list[bytes] = []

    async def read(response: httpx.Response) -> None:
        async for piece in response.aiter_bytes():
            received.append(piece)

    async with httpx.AsyncClient(base_url=await serve(gateway.app)) as client:
        body = asked(stream=True, partial_images=1)
        async with client.stream("POST", GENERATIONS, json=body) as response:
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                await read(response)
    events = events_of(b"".join(received).decode())
    assert [event.get("type", "error") for event in events] == ["image_generation.partial_image", "error"]


async def test_one_failed_image_fails_a_plain_answer(gateway: Gateway) -> None:
    done = [RowEvent(0, delta()), RowEvent(0, Finished("stop", STEPS))]
    accepted = [RowEvent(0, ACCEPTED[0].event)]
    gateway.dispatcher.default = play(accepted, done[:1], [RowEvent(0, Failed.of(Overloaded("lost")))])
    assert (await post(gateway, GENERATIONS, json=asked())).status_code == 503


async def test_a_client_that_goes_away_frees_its_images(gateway: Gateway) -> None:
    gateway.dispatcher.default = play(ACCEPTED, asyncio.Event())
    task = asyncio.create_task(post(gateway, GENERATIONS, json=asked(stream=True)))
    await gateway.dispatcher.opened.wait()
    task.cancel()
    await gateway.dispatcher.closed.wait()
    assert gateway.dispatcher.open == 0


async def test_units_prompts_and_the_time_to_the_first_preview_are_measured(gateway: Gateway) -> None:
    await post(gateway, GENERATIONS, json=asked(n=2, stream=True, partial_images=1))
    await post(gateway, GENERATIONS, json=asked())
    streamed, plain = gateway.log_lines()
    assert (streamed["units"], streamed["prompt_tokens"], streamed["completion_tokens"]) == (2 * STEPS, 3, 0)
    assert streamed["first_chunk_ms"] is not None
    assert (plain["units"], plain["first_chunk_ms"]) == (STEPS, None)
    figures = gateway.state.metrics.render([]).decode()
    labels = f'family="diffusion",gateway="",model="{PAINTER}",tenant="default"'
    assert f"castalia_request_units_total{{{labels}}} {3.0 * STEPS}" in figures
    assert "a red heart" not in gateway.log_text.getvalue()


async def test_streamed_images_are_encoded_off_the_event_loop(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded_on: dict[int, set[type]] = {}
    plain = ImageStream.encode

    def encode(self: ImageStream, batch: Sequence[RowEvent]) -> bytes:
        encoded_on.setdefault(threading.get_ident(), set()).update(type(event) for _, event in batch)
        return plain(self, batch)

    monkeypatch.setattr(ImageStream, "encode", encode)
    await post(gateway, GENERATIONS, json=asked(n=2, stream=True, partial_images=1))
    assert encoded_on.pop(threading.get_ident()) == {Accepted}
    assert set.union(*encoded_on.values()) == {ImageDelta, Finished}


@pytest.mark.parametrize("stream", [True, False])
async def test_the_content_hash_is_the_replicas(gateway: Gateway, stream: bool) -> None:
    """Hashing megabytes again would take the gateway's time."""
    image = replace(delta(), sha256="f" * 64)
    gateway.dispatcher.default = play(ACCEPTED, [RowEvent(0, image), RowEvent(0, Finished("stop", STEPS))])
    assert "f" * 64 in (await post(gateway, GENERATIONS, json=asked(stream=stream))).text
