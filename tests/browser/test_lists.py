"""Tasks of lists: levels that are played, molecules, records against real ones, scores of records, forecasts."""

from __future__ import annotations

import json
import re

from playwright.sync_api import expect

from tests.browser.playground import Playground

KEYS = {"u": "ArrowUp", "d": "ArrowDown", "l": "ArrowLeft", "r": "ArrowRight"}


def test_a_level_is_solved_with_arrow_keys(playground: Playground) -> None:
    playground.open("sokoban-pixelcnn", "level", seed=1, n=12)
    with playground.page.expect_response("**/v1/levels/generations") as answer:
        playground.run()
    levels = [json.loads(line) for line in answer.value.text().splitlines()]
    at, solution = next((at, level["solution"]) for at, level in enumerate(levels) if level.get("solution"))
    playground.at("play").nth(at).click()
    for move in solution.lower()[:-1]:
        playground.page.keyboard.press(KEYS[move])
    expect(playground.at("game-status")).to_have_text(re.compile(rf"^{len(solution) - 1} moves, "))
    playground.page.keyboard.press(KEYS[solution.lower()[-1]])
    expect(playground.at("game-status")).to_have_text(f"Solved in {len(solution)} moves.")
    playground.page.keyboard.press("u")
    expect(playground.at("game-status")).to_have_text(re.compile(rf"^{len(solution) - 1} moves, "))


def test_molecules_are_drawn_with_their_properties(playground: Playground) -> None:
    playground.open("molecules-lstm", "molecule", seed=1, n=4)
    playground.run()
    cells = playground.at("molecules").get_by_role("figure")
    expect(cells).to_have_count(4)
    expect(cells.filter(has_text=re.compile("QED.*logP.*g/mol"))).to_have_count(4)
    for drawing in playground.at("molecules").get_by_role("img", name="Structure of").all():
        assert drawing.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0


def test_records_are_shown_against_real_ones(playground: Playground) -> None:
    playground.open("records-vae", "record", seed=1, n=200)
    playground.run()
    expect(playground.at("output")).to_contain_text("200 drawn")
    expect(playground.at("output")).to_contain_text(re.compile(r"\d+ real, held out"))
    histograms = playground.at("histograms").get_by_role("img")
    assert histograms.count() > 10
    expect(histograms.first).to_have_attribute("aria-label", re.compile("% against .* %"))
    expect(playground.at("output").get_by_role("row")).to_have_count(101)


def test_examples_of_records_are_scored(playground: Playground) -> None:
    playground.open("records-flow", "score")
    playground.at("example").click()
    expect(playground.at("input")).to_have_value(re.compile(r'^\{"age":'))
    playground.run()
    expect(playground.at("output").get_by_role("row")).to_have_count(6)
    expect(playground.at("output").get_by_role("cell", name="exact")).to_have_count(5)


def test_a_forecast_is_plotted_with_what_came_later(playground: Playground) -> None:
    playground.open("forecast-lstm", "forecast", seed=1, horizon=12)
    playground.at("example").click()
    expect(playground.at("series")).not_to_have_value(re.compile("^20\n"))  # the usual one
    playground.run()
    expect(playground.at("plot").locator(".later")).to_have_count(1)
    expect(playground.at("output").get_by_role("row")).to_have_count(13)
