"""Tasks of images: they sharpen, keep what a mask keeps, vary, go from one to another, and are read by models."""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image
from playwright.sync_api import FilePayload, Route, expect

from tests.browser.playground import Playground, pixels

SEVEN = [(0.3, 0.25), (0.7, 0.25), (0.55, 0.5), (0.45, 0.8)]
FIRST = "document.querySelector('[data-testid=image]')?.getAttribute('src')"
READERS = ["digits-rbm", "digits-dbm", "digits-ebm", "digits-flow", "digits-ode", "digits-pixelcnn", "emoji-vae"]


def test_an_image_sharpens(playground: Playground) -> None:
    """At least three distinct frames are seen, and each is nearer to the last."""
    playground.open("emoji-diffusion", "image", seed=7, n=1)
    playground.at("prompt").fill("red heart")
    playground.watch(FIRST)
    playground.run()
    frames = [pixels(frame) for frame in playground.seen()]
    assert len(frames) >= 3
    distances = [np.abs(frame - frames[-1]).mean() for frame in frames]
    assert distances == sorted(distances, reverse=True)
    assert len(set(distances)) == len(frames)


def test_a_painted_mask_is_kept(playground: Playground) -> None:
    """What is painted over changes; not a pixel beside it does."""
    playground.open("emoji-diffusion", "image", seed=7, n=1)
    playground.at("prompt").fill("red heart")
    playground.run()
    before = pixels(playground.at("image").get_attribute("src"))
    playground.at("to-edit").click()
    expect(playground.at("run")).to_have_text("Edit")
    expect(playground.at("prompt")).to_have_value("red heart")
    playground.at("prompt").fill("blue circle")
    playground.at("field-n").fill("1")
    playground.paint([(0.15, 0.05), (0.15, 0.95)], brush=60)
    playground.run()
    after = pixels(playground.at("image").get_attribute("src"))
    changed = np.flatnonzero(np.abs(after - before).max(axis=(0, 2)))  # columns of pixels
    assert len(changed) > 0
    assert changed.max() < 10  # of 32: the stroke ends at 0.15 + 60 / 336 / 2 of the width
    assert np.abs(after - before)[4:-4, 2:7].mean() > 1


def test_a_click_on_an_image_varies_it(playground: Playground) -> None:
    playground.open("emoji-vae", "image", seed=1, n=1)
    playground.at("prompt").fill("food")
    playground.run()
    first = playground.at("image").get_attribute("src")
    playground.at("image").click()
    expect(playground.at("task-variation")).to_have_attribute("aria-current", "true")
    playground.wait()
    expect(playground.at("image")).to_have_count(4)
    sources = [image.get_attribute("src") for image in playground.at("image").all()]
    assert len({first, *sources}) == 5


def test_a_slider_goes_from_one_image_to_another(playground: Playground) -> None:
    playground.open("emoji-gan", "interpolation", start_seed=1, end_seed=2, frames=5)
    playground.run()
    shown: list[str | None] = []
    for position in range(5):
        playground.at("position").fill(str(position))
        shown.append(playground.at("frame").get_attribute("src"))
    assert len(set(shown)) == 5
    distances = [np.abs(pixels(each) - pixels(shown[0])).mean() for each in shown]
    assert distances == sorted(distances)


def without_limits(route: Route) -> None:
    answer = route.fetch()
    models = [{**model, "limits": {}} for model in answer.json()["data"]]
    route.fulfill(response=answer, json={**answer.json(), "data": models})


def test_a_drawn_digit_is_read_by_every_model_that_can(playground: Playground) -> None:
    """Also by those that were never loaded and so have not told their size."""
    playground.page.route("**/v1/models", without_limits)
    playground.open("digits-flow", "score")
    playground.paint(SEVEN)
    playground.wait()
    for model in READERS:
        column = playground.at(f"model-{model}")
        expect(column.get_by_role("img", name="The input")).to_be_visible()
        expect(column).to_contain_text(re.compile(r"nats, (exact|lower bound|estimate|unnormalised)"))
    exact = playground.at("model-digits-flow")
    expect(exact).to_contain_text("Percentile held out")
    expect(playground.at("model-digits-rbm").get_by_role("img", name="Reconstruction")).to_be_visible()


def test_an_image_from_a_file_is_reconstructed_and_becomes_a_vector(playground: Playground) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, "png")
    red: FilePayload = {"name": "red.png", "mimeType": "image/png", "buffer": file.getvalue()}
    playground.open("emoji-vae", "reconstruction")
    playground.at("picture").set_input_files(red)
    playground.wait()
    expect(playground.at("model-emoji-vae").get_by_role("img", name="Reconstruction")).to_be_visible()
    playground.open("emoji-vae", "embedding")
    playground.at("picture").set_input_files(red)
    expect(playground.page.get_by_role("img", name="Image", exact=True)).to_be_visible()
    playground.run()
    expect(playground.at("output").get_by_role("cell", name="and 56 more")).to_be_visible()
