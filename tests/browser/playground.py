"""Owns how a visitor uses the playground: opens a task of a model, asks, waits for the end, looks at what came."""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Locator, Page, expect

ENDED = """() => {
  const text = (id) => document.querySelector(`[data-testid=${id}]`).textContent;
  return text("status").startsWith("Done in") || text("error");
}"""


class Playground:
    """`url` is where the fleet is."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    def open(self, model: str, task: str, **values: object) -> None:
        """By the link that shares a task and values of its form: another than what is open."""
        before = self.at("run").element_handles()
        self.page.goto(f"{self._url}/#{urlencode({'model': model, 'task': task, **values})}")
        for each in before:
            self.page.wait_for_function("(each) => !each.isConnected", arg=each)
        expect(self.at(f"task-{task}")).to_have_attribute("aria-current", "true")
        expect(self.at("run")).to_be_visible()

    def at(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    def run(self) -> None:
        self.at("run").click()
        self.wait()

    def wait(self) -> None:
        """For the end of what was asked, which must be a good one."""
        self.page.wait_for_function(ENDED)
        expect(self.at("error")).to_be_empty()

    def watch(self, expression: str) -> None:
        """Note the different values of an expression from now on, as often as the screen is painted."""
        self.page.evaluate(
            f"""() => {{
              const seen = (window.seen = []);
              const look = () => {{
                const value = {expression};
                if (value && value !== seen.at(-1)) seen.push(value);
                requestAnimationFrame(look);
              }};
              look();
            }}"""
        )

    def seen(self) -> list[Any]:
        return self.page.evaluate("() => window.seen")

    def paint(self, points: Sequence[tuple[float, float]], *, brush: int | None = None) -> None:
        """A stroke through these points, in parts of the surface's width and height."""
        if brush is not None:
            self.at("brush").fill(str(brush))
        surface = self.at("paint")
        surface.scroll_into_view_if_needed()
        box = surface.bounding_box()
        assert box is not None
        mouse = self.page.mouse
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=8)
        mouse.up()


def pixels(source: str | None) -> NDArray[np.float64]:
    """What a data: URL shows: (H, W, 3), 0 to 255."""
    assert source is not None
    picture = Image.open(io.BytesIO(b64decode(source.partition(",")[2]))).convert("RGB")
    return np.asarray(picture, dtype=np.float64)
