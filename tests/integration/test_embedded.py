"""The fleet of the repository's own models.yaml: from fetching its model to answers and images that make sense."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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


def pixels(path: Path) -> NDArray[np.float64]:
    """(H, W, 3), 0 to 255."""
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)
