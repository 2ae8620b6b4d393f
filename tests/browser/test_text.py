"""Tasks of texts: chats stream and stop, tokens show their probabilities, texts become tokens and vectors."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import httpx
from playwright.sync_api import expect

from tests.browser.playground import Playground

CHAT = "smollm2-135m-instruct"
STOPS_WITHIN_S = 1.0
ANSWER = "document.querySelector('[data-testid=turn-assistant] .tokens')?.textContent"


def running_rows(url: str, service: str) -> int:
    fleet = httpx.get(f"{url}/v1/fleet", trust_env=False).raise_for_status().json()
    replicas = [replica for each in fleet["services"] if each["name"] == service for replica in each["replicas"]]
    return sum(model["running_rows"] for replica in replicas for model in replica["models"])


def test_a_chat_streams(playground: Playground) -> None:
    playground.open(CHAT, "chat")
    playground.at("message").fill("What is the capital of France?")
    playground.watch(ANSWER)
    playground.run()
    answers = playground.seen()
    assert len(answers) >= 3
    assert all(after.startswith(before) for before, after in pairwise(answers))
    assert "Paris" in answers[-1]


def test_stop_stops_a_chat_within_a_second_on_the_page_and_in_the_fleet(playground: Playground, url: str) -> None:
    playground.open(CHAT, "chat", max_tokens=1500)
    playground.at("message").fill("Count from 1 to 1000, one number a line.")
    playground.watch(ANSWER)
    playground.at("run").click()
    playground.page.wait_for_function("() => window.seen.length > 3")
    assert running_rows(url, "chat") == 1
    began = time.monotonic()
    playground.at("stop").click()
    expect(playground.at("status")).to_have_text("Stopped.", timeout=1000 * STOPS_WITHIN_S)
    while running_rows(url, "chat"):
        assert time.monotonic() - began < STOPS_WITHIN_S
    assert time.monotonic() - began < STOPS_WITHIN_S
    told = playground.at("tokens").text_content()
    playground.page.wait_for_timeout(500)
    assert playground.at("tokens").text_content() == told


def test_a_turn_is_edited_and_answered_anew(playground: Playground) -> None:
    playground.open(CHAT, "chat", max_tokens=8)
    playground.at("message").fill("What is the capital of France?")
    playground.run()
    playground.at("edit").click()
    expect(playground.at("message")).to_have_value("What is the capital of France?")
    expect(playground.at("conversation").get_by_role("listitem")).to_have_count(0)
    playground.at("message").fill("What is the capital of Italy?")
    playground.run()
    expect(playground.at("turn-user")).to_contain_text("Italy")
    expect(playground.at("turn-assistant")).to_have_count(1)


def test_a_token_tells_its_probability_when_it_is_pointed_at(playground: Playground) -> None:
    playground.open("story-gpt", "completion", seed=1)
    playground.at("prompt").fill("It was a")
    playground.run()
    playground.at("tokens").locator("span").nth(1).hover()
    expect(playground.at("token-facts")).to_have_text(re.compile(r'^".*" [\d.]+ %; likeliest: ".*" [\d.]+ %'))


def test_a_text_becomes_tokens_and_they_the_text(playground: Playground) -> None:
    playground.open("story-gpt", "tokenize")
    playground.at("prompt").fill("It was a truth")
    playground.run()
    cells = playground.at("output").get_by_role("cell").all_text_contents()
    (tokens,) = [cell for cell in cells if re.fullmatch(r"\d+( \d+)+", cell)]
    playground.open("story-gpt", "detokenize")
    playground.at("tokens").fill(tokens)
    playground.run()
    expect(playground.at("output").get_by_role("cell", name="It was a truth")).to_be_visible()


def test_texts_become_vectors(playground: Playground) -> None:
    playground.open("all-minilm-l6-v2", "embedding")
    playground.at("input").fill("A cat\nA dog")
    playground.run()
    expect(playground.at("output").get_by_role("row")).to_have_count(3)
    expect(playground.at("output").get_by_role("cell", name="and 376 more")).to_have_count(2)
