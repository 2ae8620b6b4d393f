"""Chat and images without a pointer: every step is a key, and what has the focus shows it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.playground import Playground

MOST_STEPS = 80
HAS_RING = "() => getComputedStyle(document.activeElement).outlineStyle !== 'none'"


def tab_to(playground: Playground, name: str) -> None:
    page = playground.page
    for _ in range(MOST_STEPS):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.dataset.testid") == name:
            assert page.evaluate(HAS_RING)
            return
    pytest.fail(f"no way to {name} by Tab")


def test_a_chat_by_keys_alone(playground: Playground, url: str) -> None:
    playground.page.goto(url)
    expect(playground.at("message")).to_be_visible()
    keys = playground.page.keyboard
    tab_to(playground, "message")
    keys.type("What is the capital of France?")
    keys.press("Enter")
    playground.wait()
    tab_to(playground, "tokens")
    keys.press("ArrowRight")
    expect(playground.at("token-facts")).to_contain_text("%; likeliest:")
    tab_to(playground, "retry")
    keys.press("Enter")
    playground.wait()
    expect(playground.at("turn-assistant")).to_have_count(1)


def test_images_by_keys_alone(playground: Playground, url: str) -> None:
    """Picks the model by its first letter, draws, goes on to edit the image, paints a mask, and edits."""
    playground.page.goto(url)
    expect(playground.at("run")).to_be_visible()
    keys = playground.page.keyboard
    tab_to(playground, "model")
    keys.type("emoji-d")
    expect(playground.at("task-image")).to_have_attribute("aria-current", "true")
    tab_to(playground, "prompt")
    keys.type("red heart")
    tab_to(playground, "run")
    keys.press("Enter")
    playground.wait()
    expect(playground.at("image").first).to_have_attribute("alt", re.compile("^red heart, seed "))
    tab_to(playground, "to-edit")
    keys.press("Enter")
    expect(playground.at("run")).to_have_text("Edit")
    tab_to(playground, "paint")
    keys.down("Shift")
    for _ in range(8):
        keys.press("ArrowRight")
    keys.up("Shift")
    tab_to(playground, "run")
    keys.press("Enter")
    playground.wait()
    expect(playground.at("image").first).to_have_attribute("alt", re.compile("^red heart, seed "))


def test_the_skip_link_leads_past_the_header(playground: Playground, url: str) -> None:
    playground.page.goto(url)
    expect(playground.at("run")).to_be_visible()
    playground.page.keyboard.press("Tab")
    playground.page.keyboard.press("Enter")
    tab_to(playground, "model")
