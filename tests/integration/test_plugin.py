"""A sampler from outside the tree is served as any other: the example of `docs/examples`."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from tests.integration.conftest import LocalFleet


def test_an_operator_s_own_sampler_streams_previews_and_refuses_by_name(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client:
        events = list(
            client.images.generate(
                model="ising",
                prompt="",
                stream=True,
                partial_images=3,
                extra_body={"steps": 1000, "seed": 5, "temperature": 0.8},
            )
        )
        *previews, last = events
        assert [event.type for event in previews] == ["image_generation.partial_image"] * 3
        assert last.type == "image_generation.completed"
        whole = client.images.generate(
            model="ising", prompt="", extra_body={"steps": 1000, "seed": 5, "temperature": 0.8}
        )
    assert whole.data is not None
    assert whole.data[0].b64_json == last.b64_json
    walls = [_walls(event.b64_json) for event in events]
    assert walls[-1] < walls[0], "below its critical temperature the grid orders itself"
    with local_fleet.http() as http:
        refused = http.post("/v1/images/generations", json={"model": "ising", "prompt": "", "guidance_scale": 2.0})
        card = http.get("/v1/models/ising").json()
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "guidance_scale")
    assert (card["family"], card["tasks"], card["limits"]["width"]) == ("plugin", ["image"], 32)


def _walls(picture: str) -> int:
    """How many neighbours differ, of all pairs in a row."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        spins = np.asarray(image.convert("L")) > 127
    return int((spins[:, 1:] != spins[:, :-1]).sum())
