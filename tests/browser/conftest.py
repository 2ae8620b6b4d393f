"""One running fleet of the repository's models.yaml and one Chromium for all of these tests; a fresh context for each.

Whatever a test does with a page, at its end axe-core finds nothing there, and a page did nothing that it must not do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from services import fleet
from shared.config.settings import Settings
from tests.browser.axe import violations
from tests.browser.chromium import DESKTOP, Theme, chromium, visit
from tests.browser.playground import Playground
from tests.browser.watch import Watch

MODELS = Path(__file__).parents[2] / "models.yaml"
START_AND_TEST_S = 600  # the first test waits for the fleet

OpenPage = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(START_AND_TEST_S))


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the fleet is: a new one, or the one that CASTALIA_TEST_URL names."""
    if given := os.environ.get("CASTALIA_TEST_URL"):
        yield given
        return
    home = tmp_path_factory.mktemp("home")
    fetched = Settings().home / "cache"
    fetched.mkdir(parents=True, exist_ok=True)
    (home / "cache").symlink_to(fetched)  # what was fetched once is not fetched again
    state = fleet.up(MODELS, name="browser", settings=Settings(home=home, port=0), on_progress=print)
    try:
        yield state.url
    finally:
        fleet.down("browser", home)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[OpenPage]:
    """Makes pages, each in a context of its own, and checks them at the end of the test."""
    visits: list[tuple[BrowserContext, Watch]] = []

    def make(theme: Theme = "light", width: int = DESKTOP) -> Page:
        context = visit(browser, theme=theme, width=width)
        visits.append((context, Watch(context, url)))
        return context.new_page()

    yield make
    try:
        assert [found for context, _ in visits for page in context.pages for found in violations(page)] == []
        assert [problem for _, watch in visits for problem in watch.problems] == []
    finally:
        for context, _ in visits:
            context.close()


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()


@pytest.fixture
def playground(page: Page, url: str) -> Playground:
    return Playground(page, url)
