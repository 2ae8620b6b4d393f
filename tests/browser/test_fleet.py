"""The fleet page: services with live charts, replicas, usage, and the models' cards."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.playground import Playground


def open_fleet(page: Page, url: str) -> None:
    page.goto(f"{url}/fleet")
    expect(page.get_by_test_id("services").get_by_role("article")).not_to_have_count(0)


def test_a_replica_and_what_it_did_are_shown(playground: Playground, url: str) -> None:
    playground.open("digits-gan", "image", n=2)
    playground.run()
    page = playground.page
    page.get_by_test_id("nav-fleet").click()
    service = page.get_by_test_id("service-gan")
    expect(service).to_contain_text("0 to 1 replicas")
    expect(service.get_by_role("listitem")).to_contain_text("digits-gan ready")
    chart = service.get_by_role("img", name=re.compile("^Replicas: "))
    expect(chart).to_have_attribute("aria-label", "Replicas: 1; from 1 to 1 in what is shown")
    expect(page.get_by_role("region", name="Usage by tenant")).to_be_visible()


def test_charts_live_until_they_are_paused(page: Page, url: str) -> None:
    open_fleet(page, url)
    line = page.get_by_test_id("summary").locator("polyline").first
    points = line.get_attribute("points") or ""
    expect(line).not_to_have_attribute("points", points, timeout=10_000)
    page.get_by_test_id("pause").click()
    paused = line.get_attribute("points")
    page.wait_for_timeout(3000)
    assert line.get_attribute("points") == paused


def test_a_card_is_read_with_its_sheets(page: Page, url: str) -> None:
    open_fleet(page, url)
    card = page.get_by_test_id("card-digits-flow")
    card.locator("summary").click()
    expect(card).to_contain_text("Draws handwritten digits of 28x28 pixels")
    expect(card.get_by_role("table").first).to_contain_text("bits_per_dimension")
    for sheet in card.get_by_role("img").all():
        assert sheet.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    assert card.get_by_role("img").count() > 0
