"""Every tab and both pages, in both themes, on a phone and on a desk: nobody is kept out, nothing is cut off.

What axe-core says of results is asked after every other test as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.chromium import DESKTOP, PHONE, Theme
from tests.browser.conftest import OpenPage
from tests.browser.playground import Playground

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


SPILLED = """() => [...document.querySelectorAll(".cell")].flatMap((cell) =>
  [...cell.querySelectorAll("*")].filter(
    (each) => each.getBoundingClientRect().right > cell.getBoundingClientRect().right).map((each) => each.outerHTML))"""


def tabs(url: str) -> dict[str, str]:
    """Of every task a model that has it."""
    models = httpx.get(f"{url}/v1/models", trust_env=False).raise_for_status().json()["data"]
    return {task: model["id"] for model in reversed(models) for task in model["tasks"]}


def barriers(page: Page, name: str) -> Iterator[str]:
    yield from (f"{name}: {found}" for found in violations(page))
    if (overflow := page.evaluate(OVERFLOW)) > 0:
        yield f"{name}: wider than the screen by {overflow} pixels"


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_tab_and_page_keeps_nobody_out(open_page: OpenPage, url: str, theme: Theme, width: int) -> None:
    playground = Playground(open_page(theme, width), url)
    found: list[str] = []
    for task, model in tabs(url).items():
        playground.open(model, task)
        found += barriers(playground.page, task)
    playground.page.goto(f"{url}/fleet")
    expect(playground.at("card-digits-flow")).to_be_visible()
    playground.at("card-digits-flow").locator("summary").click()
    expect(playground.at("card-digits-flow").get_by_role("img").first).to_be_visible()
    found += barriers(playground.page, "fleet")
    assert found == []


@pytest.mark.parametrize(
    ("model", "task"),
    [("digits-gan", "image"), ("molecules-lstm", "molecule"), ("records-vae", "record"), ("sokoban-pixelcnn", "level")],
)
def test_results_keep_within_their_cells_on_a_phone(open_page: OpenPage, url: str, model: str, task: str) -> None:
    playground = Playground(open_page("light", PHONE), url)
    playground.open(model, task, seed=1)
    playground.run()
    assert playground.page.evaluate(SPILLED) == []
    assert playground.page.evaluate(OVERFLOW) <= 0
