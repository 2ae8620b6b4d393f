"""Every built-in model of densities and energies, asked over HTTP for all that it does, and judged by its answers."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.training.publish import builtin_folder
from services.training.recipes import RECIPES, load_recipe
from shared.config.base import ModelConfig
from tests.digit_reader import read_digits
from tests.integration.conftest import BUILTIN, LocalFleet

MODELS: dict[str, ModelConfig] = {model.id: model for service in BUILTIN for model in service.models}
CASES = [(name, task) for name, model in MODELS.items() for task in model.does]
DIGITS = [name for name in MODELS if name.startswith("digits-")]
EACH = 4  # drawings of each digit
CHANCE = 0.1


@pytest.fixture(scope="module")
def http(local_fleet: LocalFleet) -> Iterator[httpx.Client]:
    """A client of a fleet whose built-in models are awake: they load side by side."""
    with local_fleet.http() as client, ThreadPoolExecutor() as pool:
        client.timeout = httpx.Timeout(120)
        list(pool.map(lambda name: _wake(client, name), MODELS))
        yield client


WAKING: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("/v1/images/generations", {"prompt": ""}),
    "record": ("/v1/records/generations", {}),
    "level": ("/v1/levels/generations", {}),
    "forecast": ("/v1/forecasts", {"input": {"values": [float(i) for i in range(48)]}, "horizon": 1}),
}


def _wake(client: httpx.Client, model: str) -> None:
    """Models of other kinds are woken by tests of their own."""
    for path, body in [WAKING[task] for task in MODELS[model].does if task in WAKING][:1]:
        ask(client, path, model=model, **body)


def ask(client: httpx.Client, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def of_images(task: str) -> list[str]:
    """The models of images that do this."""
    return [name for name, does in CASES if does == task and "image" in MODELS[name].does]


def held_out(model: str) -> list[Image.Image]:
    """The real images that lie beside the weights."""
    folder = _folder(model)
    with Image.open(folder / "held_out.png") as mosaic:
        mosaic.load()
    config = json.loads((folder / "config.json").read_text())
    side = mosaic.height // len(config["classes"])
    boxes = [
        (left, top, left + side, top + side)
        for top in range(0, mosaic.height, side)
        for left in range(0, mosaic.width, side)
    ]
    return [mosaic.crop(box) for box in boxes]


def _folder(model: str) -> Path:
    """Of its weights."""
    return builtin_folder(load_recipe(RECIPES[MODELS[model].source.removeprefix("builtin://")]))


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def pixels(picture: str) -> NDArray[np.int16]:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        return np.asarray(opened, dtype=np.int16)


def noise(like: Image.Image) -> Image.Image:
    shape = np.asarray(like).shape
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("model", DIGITS)
def test_drawn_digits_are_read_as_the_digit_that_was_asked_for(http: httpx.Client, model: str) -> None:
    with ThreadPoolExecutor() as pool:
        answers = pool.map(
            lambda digit: ask(http, "/v1/images/generations", model=model, prompt=str(digit), n=EACH, seed=digit),
            range(10),
        )
        drawn = [picture["b64_json"] for answer in answers for picture in answer["data"]]
    asked = [digit for digit in range(10) for _ in range(EACH)]
    share = float(np.mean(np.array(read_digits(drawn)) == np.array(asked)))
    assert share > 4 * CHANCE, f"{share:.0%} of {model}'s digits are read as asked"


@pytest.mark.parametrize("model", [name for name, task in CASES if task == "image"])
def test_images_stream_and_come_again_by_their_seed(local_fleet: LocalFleet, http: httpx.Client, model: str) -> None:
    with local_fleet.openai() as client:
        events = list(
            client.images.generate(
                model=model, prompt="", stream=True, partial_images=2, extra_body={"seed": 3}, timeout=120
            )
        )
    final = events[-1]
    assert final.type == "image_generation.completed"
    again = ask(http, "/v1/images/generations", model=model, prompt="", seed=3)["data"][0]
    assert np.abs(pixels(again["b64_json"]) - pixels(final.b64_json)).max() <= 1


@pytest.mark.parametrize("model", of_images("score"))
def test_real_images_are_likelier_than_noise(http: httpx.Client, model: str) -> None:
    real = held_out(model)[::9][:10]
    answer = ask(http, "/v1/scores", model=model, input=[data_url(each) for each in (*real, noise(real[0]))], seed=1)
    *scores, strange = answer["data"]
    assert [score["index"] for score in answer["data"]] == list(range(len(real) + 1))
    sign = -1 if scores[0]["metric"] in ("energy", "free_energy") else 1
    assert all(sign * score["value"] > sign * strange["value"] for score in scores)
    assert strange["percentile"]["held_out"] <= 1
    assert np.mean([score["percentile"]["held_out"] for score in scores]) > 15


@pytest.mark.parametrize("model", of_images("embedding"))
def test_images_become_vectors_that_openai_s_client_takes(
    local_fleet: LocalFleet, http: httpx.Client, model: str
) -> None:
    given = [data_url(each) for each in held_out(model)[:3]]
    with local_fleet.openai() as client:
        answer = client.embeddings.create(model=model, input=given, encoding_format="float")
    # By default the client asks for base64, which it decodes only after its validation, and that knows numbers alone.
    with openai.OpenAI(base_url=f"{local_fleet.url}/v1", api_key="none") as client:
        short = client.embeddings.create(model=model, input=given[0], dimensions=4).data[0].embedding
    vectors = [each.embedding for each in answer.data]
    assert len({len(vector) for vector in vectors}) == 1
    assert np.allclose(short, vectors[0][:4], atol=1e-4)
    assert len(set(map(tuple, vectors))) == 3


@pytest.mark.parametrize("model", of_images("reconstruction"))
def test_reconstructions_are_nearer_to_real_images_than_to_noise(http: httpx.Client, model: str) -> None:
    real = held_out(model)[:4]
    answer = ask(http, "/v1/reconstructions", model=model, input=[data_url(each) for each in (*real, noise(real[0]))])
    *errors, strange = [item["error"] for item in answer["data"]]
    assert max(errors) < strange
    assert pixels(answer["data"][0]["image"]["b64_json"]).shape[:2] == real[0].size[::-1]


@pytest.mark.parametrize("model", [name for name, task in CASES if task == "edit"])
def test_an_edit_keeps_what_its_mask_keeps(http: httpx.Client, model: str) -> None:
    before = held_out(model)[0]
    mask = Image.new("L", before.size, 255)
    mask.paste(0, (0, before.height // 2, before.width, before.height))  # black: may change
    fields = {"image": data_url(before), "mask": data_url(mask), "prompt": "", "seed": 2}
    edited, again = (ask(http, "/v1/images/edits", model=model, **fields)["data"][0]["b64_json"] for _ in range(2))
    given, got = (each[: before.height // 2] for each in (np.asarray(before, dtype=np.int16), pixels(edited)))
    black_and_white = np.where(given < 128, 0, 255)  # as some models see any image
    assert (got == given).all() or (got == black_and_white).all()
    assert edited == again


@pytest.mark.parametrize("model", [name for name, task in CASES if task == "variation"])
def test_a_variation_is_near_its_image_and_not_it(http: httpx.Client, model: str) -> None:
    given = held_out(model)[5]
    near, far = (
        pixels(
            ask(http, "/v1/images/variations", model=model, image=data_url(given), strength=strength, seed=1)["data"][
                0
            ]["b64_json"]
        )
        for strength in (0.1, 1.0)
    )
    original = np.asarray(given, dtype=np.int16)
    assert 0 < np.abs(near - original).mean() < np.abs(far - original).mean()


@pytest.mark.parametrize("model", [name for name, task in CASES if task == "interpolation"])
def test_an_interpolation_goes_from_one_end_to_the_other(http: httpx.Client, model: str) -> None:
    answer = ask(http, "/v1/interpolations", model=model, start={"seed": 1}, end={"seed": 2}, frames=5)
    frames = [pixels(frame["b64_json"]) for frame in answer["frames"]]
    ends = np.abs(frames[0] - frames[-1]).mean()
    assert all(0 < np.abs(a - b).mean() < ends for a, b in pairwise(frames))


@pytest.mark.parametrize("model", [name for name, task in CASES if task == "record"])
def test_records_keep_types_ranges_and_categories(http: httpx.Client, model: str) -> None:
    answer = ask(http, "/v1/records/generations", model=model, n=200, seed=4)
    columns = {column["name"]: column for column in answer["columns"]}
    assert len(answer["data"]) == 200
    for item in answer["data"]:
        assert list(item["record"]) == list(columns)
        for name, value in item["record"].items():
            column = columns[name]
            match column["type"]:
                case "category":
                    assert value in column["categories"]
                case "integer":
                    assert isinstance(value, int)
                    assert column["minimum"] <= value <= column["maximum"]
                case "number":
                    assert column["minimum"] <= value <= column["maximum"]
    table = http.post("/v1/records/generations", json={"model": model, "n": 5, "seed": 4, "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [list(row) for row in rows] == [list(columns)] * 5
    scored = ask(http, "/v1/scores", model=model, input=[item["record"] for item in answer["data"][:20]])
    assert len(scored["data"]) == 20


@pytest.mark.slow
def test_ten_thousand_records_stream_as_lines(http: httpx.Client) -> None:
    model = next(name for name, task in CASES if task == "record")
    body = {"model": model, "n": 10_000, "seed": 1, "stream": True}
    with http.stream("POST", "/v1/records/generations", json=body) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    *items, end = lines
    assert sorted(item["index"] for item in items) == list(range(10_000))
    assert end["object"] == "list.end"
    assert end["usage"]["units"] >= 10_000


@pytest.mark.parametrize("model", [name for name, task in CASES if task == "level"])
def test_levels_parse_and_some_can_be_played(http: httpx.Client, model: str) -> None:
    levels = ask(http, "/v1/levels/generations", model=model, n=48, seed=1)["data"]
    for level in levels:
        rows = level["text"].splitlines()
        assert (len(rows), max(map(len, rows))) == (level["height"], level["width"])
        assert set(level["text"]) <= set("#@+$*. -_\n")
        assert (level["solution"] is not None) == (level["playable"] == "true")
    assert any(level["playable"] == "true" for level in levels)


def test_openai_s_client_names_what_a_model_cannot_do(local_fleet: LocalFleet, http: httpx.Client) -> None:
    model = next(name for name in DIGITS if "level" not in MODELS[name].does)
    with local_fleet.openai() as client, pytest.raises(openai.BadRequestError) as caught:
        client.post("/levels/generations", body={"model": model}, cast_to=httpx.Response)
    assert caught.value.code == "unsupported_task"
    assert MODELS[model].does[0] in caught.value.message
