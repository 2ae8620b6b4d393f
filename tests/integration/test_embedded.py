"""The fleet of the repository's own models.yaml: from fetching its model to answers and images that make sense."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services import fleet
from shared.config.settings import Settings
from tests.integration.conftest import LocalFleet

ROOT = Path(__file__).parents[2]
MODELS, EXAMPLE = ROOT / "models.yaml", ROOT / "docs/examples/stream_image.py"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
MODEL = "smollm2-135m-instruct"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it fetches 90 MB


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, port=0)
    state = fleet.up(MODELS, name="embedded", settings=settings, on_progress=print)
    try:
        yield LocalFleet(state, settings, MODELS, home)
    finally:
        fleet.down("embedded", home)


def test_the_embedded_model_knows_the_capital_of_france(embedded: LocalFleet) -> None:
    """By its defaults of models.yaml, whole and streamed alike."""
    with embedded.openai() as client:
        whole = client.chat.completions.create(model=MODEL, messages=QUESTION)
        stream = client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)
        streamed = "".join(piece.choices[0].delta.content or "" for piece in stream)
    assert whole.choices[0].message.content == streamed
    assert "Paris" in streamed


def test_the_example_saves_previews_that_sharpen_and_an_edit_that_keeps_what_the_mask_keeps(
    embedded: LocalFleet, tmp_path: Path
) -> None:
    """The script that README names. It checks the kept half itself; here the previews come ever nearer to the image."""
    command = [sys.executable, EXAMPLE, "red heart", "--url", embedded.url, "--output", tmp_path]
    subprocess.run(command, check=True, timeout=300)
    image = pixels(tmp_path / "image.png")
    distances = [np.abs(pixels(tmp_path / f"preview-{i}.png") - image).mean() for i in (1, 2, 3)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 2 * distances[2]
    middle = image[12:20, 12:20].mean((0, 1))  # red, green, blue of what is to be a red heart
    assert middle[0] > 2 * max(middle[1:])
    assert np.abs(pixels(tmp_path / "edited.png") - image).max() > 0


def test_the_gan_draws_digits_by_name_again_by_seed_and_the_way_between_two(embedded: LocalFleet) -> None:
    """Interpolation ends are the images of their seeds; the frames between move steadily from one to the other."""
    with embedded.http() as client:
        asked = {"model": "digits-gan", "prompt": "7", "n": 4, "seed": 1}
        first, again = (client.post("/v1/images/generations", json=asked).raise_for_status().json() for _ in "ab")
        ends = {"start": {"prompt": "7", "seed": 5}, "end": {"prompt": "1", "seed": 6}, "frames": 5}
        way = client.post("/v1/interpolations", json={"model": "digits-gan", **ends}).raise_for_status().json()
        alone = client.post(
            "/v1/images/generations", json={"model": "digits-gan", "prompt": "7", "seed": 5}
        ).raise_for_status()
    hashes = [image["sha256"] for image in first["data"]]
    assert hashes == [image["sha256"] for image in again["data"]]
    assert len(set(hashes)) == 4
    frames = [pixels(BytesIO(b64decode(frame["b64_json"]))) for frame in way["frames"]]
    drawn = pixels(BytesIO(b64decode(alone.json()["data"][0]["b64_json"])))
    assert np.abs(frames[0] - drawn).max() <= 1
    distances = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert distances == sorted(distances)


def pixels(path: Path | BytesIO) -> NDArray[np.float64]:
    """(H, W, 3), 0 to 255."""
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)
