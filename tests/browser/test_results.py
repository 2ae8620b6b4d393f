"""What every result has: it is copied as a command, shared by a link, and downloaded."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import httpx
from playwright.sync_api import Page, expect

from tests.browser.playground import Playground


def test_a_copied_command_gives_the_same_answer(playground: Playground) -> None:
    playground.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    playground.open("records-flow", "record", seed=5, n=3)
    with playground.page.expect_response("**/v1/records/generations") as shown:
        playground.run()
    playground.at("copy-curl").click()
    command = playground.page.evaluate("() => navigator.clipboard.readText()")
    told = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60).stdout
    assert json.loads(told)["data"] == shown.value.json()["data"]


def test_a_shared_link_holds_no_content_and_draws_the_same_image(
    playground: Playground, open_page: Callable[..., Page], url: str
) -> None:
    playground.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    playground.open("digits-gan", "image", n=1)
    playground.at("prompt").fill("7")
    playground.run()
    playground.at("share").click()
    link = playground.page.evaluate("() => navigator.clipboard.readText()")
    assert "prompt" not in link
    other = Playground(open_page(), url)
    other.page.goto(link)
    other.at("prompt").fill("7")
    other.run()
    assert other.at("image").get_attribute("src") == playground.at("image").get_attribute("src")


def test_a_result_is_downloaded(playground: Playground) -> None:
    playground.open("digits-gan", "image", n=1, seed=5)
    playground.at("prompt").fill("7")
    playground.run()
    with playground.page.expect_download() as download:
        playground.at("download").click()
    assert download.value.suggested_filename == "image-5.png"
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_every_model_of_the_fleet_can_be_picked(playground: Playground, url: str) -> None:
    listed = httpx.get(f"{url}/v1/models", trust_env=False).raise_for_status().json()["data"]
    playground.page.goto(url)
    for model in listed:
        playground.at("model").select_option(model["id"])
        expect(playground.at(f"task-{model['tasks'][0]}")).to_have_attribute("aria-current", "true")
        expect(playground.at("run")).to_be_visible()
