"""What users of each modality ask for: bodies that the gateway takes, and readers that read the answers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel

from loadtests import locustfile
from loadtests.prompts import Inputs
from loadtests.traffic.lengths import Draw
from loadtests.users.asks import Target, Wish
from loadtests.users.base import LoadUser
from loadtests.users.given import half_mask
from loadtests.users.table import MODALITIES
from services.gateway.routes_items import OPERATIONS
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest
from shared.schemas.images import (
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    InterpolationRequest,
)
from shared.schemas.text import ChatRequest, CompletionRequest
from tests.unit.loadtests.fake_fleet import PICTURE, parts_of

URL = f"data:image/png;base64,{PICTURE}"
# What the gateway reads at each path, beside the lists that its own table says.
SCHEMAS: Mapping[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/images/generations": ImageGenerationRequest,
    "/v1/images/edits": ImageEditRequest,
    "/v1/images/variations": ImageVariationRequest,
    "/v1/interpolations": InterpolationRequest,
    "/v1/audio/speech": SpeechRequest,
    "/v1/audio/generations": AudioGenerationRequest,
} | {operation.path: operation.request for operation in OPERATIONS}
TASKS = {operation.path: operation.task for operation in OPERATIONS}


def wish(seed: int = 0, **changes: Any) -> Wish:
    fields: dict[str, Any] = {
        "target": Target(model="m", given=(URL, URL), masks=(half_mask(URL),) * 2),
        "rng": Random(seed),
        "lengths": Draw(20, 30),
        "inputs": Inputs(),
    }
    return Wish(**(fields | changes))


@pytest.mark.parametrize("task", MODALITIES)
@pytest.mark.parametrize("seed", range(6))
def test_the_gateway_takes_the_body_and_the_reader_takes_the_answer(task: str, seed: int) -> None:
    modality = MODALITIES[task]
    ask = modality.draw(wish(seed))
    read = SCHEMAS[modality.path].model_validate_json(ask.body)
    assert read.model_dump(exclude_unset=True) == ask.request.model_dump(exclude_unset=True)
    for number, part in enumerate(parts_of(modality.path, json.loads(ask.body))[1]):
        ask.reader.feed(part, float(number))
    ask.reader.end()
    assert ask.reader.units >= 1


@pytest.mark.parametrize("task", MODALITIES)
def test_the_same_seed_draws_the_same_request_and_others_draw_others(task: str) -> None:
    bodies = [MODALITIES[task].draw(wish(seed)).body for seed in (*range(12), *range(12))]
    assert bodies[:12] == bodies[12:]
    assert len(set(bodies)) > 1


@pytest.mark.parametrize("task", [task for task in MODALITIES if MODALITIES[task].path in TASKS])
def test_a_path_belongs_to_the_task_that_the_gateway_has_there(task: str) -> None:
    assert TASKS[MODALITIES[task].path] == task


@pytest.mark.parametrize("task", ["chat", "completion"])
def test_answers_of_text_are_bounded_and_run_to_their_bound_only_where_that_is_asked_for(task: str) -> None:
    usual = json.loads(MODALITIES[task].draw(wish()).body)
    assert usual["max_tokens"] == 30
    assert usual["stream_options"] == {"include_usage": True}
    assert "ignore_eos" not in usual
    assert json.loads(MODALITIES[task].draw(wish(ignore_eos=True)).body)["ignore_eos"] is True


@pytest.mark.parametrize("task", ["image", "edit", "variation", "score", "record", "molecule", "music", "forecast"])
def test_half_of_the_answers_stream_that_may_also_come_whole(task: str) -> None:
    bodies = [json.loads(MODALITIES[task].draw(wish(seed)).body) for seed in range(60)]
    assert 15 < sum(body.get("stream", False) for body in bodies) < 45


def test_a_mask_lets_the_lower_half_change() -> None:
    with Image.open(io.BytesIO(base64.b64decode(half_mask(URL).partition(",")[2]))) as mask:
        assert mask.size == (8, 8)
        assert (mask.getpixel((3, 0)), mask.getpixel((3, 7))) == (255, 0)


def test_locust_finds_a_class_of_users_for_every_modality_and_one_that_mixes_them() -> None:
    classes = [getattr(locustfile, name) for name in locustfile.__all__]
    assert all(issubclass(each, LoadUser) and not each.abstract for each in classes)
    assert sorted(each.asks_for for each in classes) == sorted(["", *MODALITIES])
