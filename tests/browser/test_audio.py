"""Tasks of sound: it plays as it comes, and can be heard again."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.playground import Playground

# Keeps the page's players, each with the loudest of what it plays.
LISTEN = """
const Silent = AudioContext;
globalThis.players = [];
globalThis.AudioContext = class extends Silent {
  constructor() {
    super();
    this.loudest = 0;
    globalThis.players.push(this);
  }
  createBuffer(...given) {
    const buffer = super.createBuffer(...given);
    const copy = buffer.copyToChannel.bind(buffer);
    buffer.copyToChannel = (samples, channel) => {
      this.loudest = samples.reduce((most, each) => Math.max(most, Math.abs(each)), this.loudest);
      copy(samples, channel);
    };
    return buffer;
  }
};
"""
PLAYS = "() => players.some((each) => each.state === 'running' && each.currentTime > 0.2 && each.loudest > 0.05)"


@pytest.fixture
def page(page: Page) -> Page:
    page.add_init_script(LISTEN)
    return page


def hear_again(playground: Playground, *, at_least_s: float) -> None:
    audio = playground.at("audio").first
    audio.evaluate("async (audio) => { await audio.play(); }")
    playground.page.wait_for_function("(audio) => audio.currentTime > 0.1", arg=audio.element_handle())
    assert audio.evaluate("(audio) => audio.duration") > at_least_s


def test_speech_plays(playground: Playground) -> None:
    playground.open("spoken-words", "speech", voice="allison", seed=1)
    playground.at("input").fill("a 1 b 2")
    playground.at("run").click()
    playground.page.wait_for_function(PLAYS)
    playground.wait()
    hear_again(playground, at_least_s=1)


def test_sounds_play(playground: Playground) -> None:
    playground.open("sounds", "sound", n=2, seed=1)
    playground.at("prompt").fill("snare")
    playground.at("run").click()
    playground.page.wait_for_function(PLAYS)
    playground.wait()
    expect(playground.at("audio")).to_have_count(2)
    hear_again(playground, at_least_s=0.1)


def test_a_tune_has_its_score_its_piano_roll_and_its_sound(playground: Playground) -> None:
    playground.open("dances-gru", "music", seed=3, bars=8, n=1)
    playground.run()
    tune = playground.at("tune")
    expect(tune).to_contain_text("as asked for")
    assert tune.get_by_test_id("score").locator("path, ellipse, line, rect, circle").count() > 30
    assert tune.get_by_test_id("piano-roll").locator("rect").count() > 8
    hear_again(playground, at_least_s=3)
