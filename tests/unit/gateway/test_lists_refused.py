"""What the operations that answer lists refuse, before any replica hears of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.gateway.fakes import MODEL, Gateway
from tests.unit.gateway.list_fakes import (
    EMBEDDINGS,
    FORECASTS,
    LEVELS,
    MANY,
    MOLECULES,
    MUSIC,
    PERSON,
    RECONSTRUCTIONS,
    RECORDS,
    SCORES,
    SERIES,
    asked,
    list_gateway,
    post,
)


@pytest.fixture(scope="module")
def refusing() -> Gateway:
    """One for all requests that reach no replica."""
    return list_gateway()


@pytest.mark.parametrize(
    ("path", "fields", "param", "code"),
    [
        (SCORES, {}, "input", "missing_required_parameter"),
        (SCORES, {"input": []}, "input", "invalid_value"),
        (SCORES, {"input": ""}, "input", "invalid_value"),
        (SCORES, {"input": None}, "input", "invalid_type"),
        (SCORES, {"input": 5}, "input", "invalid_type"),
        (SCORES, {"input": {}}, "input", "invalid_value"),
        (SCORES, {"input": ["x"] * (MANY + 1)}, "input", "invalid_value"),
        (SCORES, {"input": [PERSON, 5]}, "input[1]", "invalid_type"),
        (SCORES, {"input": [PERSON, ""]}, "input[1]", "invalid_value"),
        (SCORES, {"input": [PERSON, {}]}, "input[1]", "invalid_value"),
        (SCORES, {"input": [PERSON, {"age": [1]}]}, "input[1].age", "invalid_type"),
        (SCORES, {"input": {"age": {}}}, "input.age", "invalid_type"),
        (SCORES, {"input": [PERSON, [PERSON]]}, "input[1]", "invalid_type"),
        (SCORES, {"input": [{"x" * 129: 1}]}, "input[0]." + "x" * 64, "invalid_value"),
        (SCORES, {"input": [{str(i): i for i in range(257)}]}, "input[0]", "invalid_value"),
        (SCORES, {"input": [PERSON], "metric": "beauty"}, "metric", "invalid_value"),
        (SCORES, {"input": [PERSON], "samples": 0}, "samples", "invalid_value"),
        (SCORES, {"input": [PERSON], "samples": 1001}, "samples", "invalid_value"),
        (SCORES, {"input": [PERSON], "seed": 2**63}, "seed", "invalid_value"),
        (SCORES, {"input": [PERSON], "stream": "yes"}, "stream", "invalid_type"),
        (SCORES, {"input": [PERSON], "colour": "red"}, "colour", "unknown_parameter"),
        (EMBEDDINGS, {"input": "x", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
        (EMBEDDINGS, {"input": "x", "dimensions": 0}, "dimensions", "invalid_value"),
        (EMBEDDINGS, {"input": [["a"]]}, "input[0][0]", "invalid_type"),
        (RECONSTRUCTIONS, {"input": "x", "output_compression": 5}, "output_compression", "invalid_value"),
        (RECORDS, {"n": 0}, "n", "invalid_value"),
        (RECORDS, {"n": MANY + 1}, "n", "invalid_value"),
        (RECORDS, {"n": "3"}, "n", "invalid_type"),
        (RECORDS, {"format": "xml"}, "format", "invalid_value"),
        (RECORDS, {"format": "csv", "stream": True}, "format", "invalid_value"),
        (RECORDS, {"temperature": 0}, "temperature", "invalid_value"),
        (LEVELS, {"n": 129}, "n", "invalid_value"),
        (LEVELS, {"attempts": 0}, "attempts", "invalid_value"),
        (MOLECULES, {"n": MANY + 1}, "n", "invalid_value"),
        (MOLECULES, {"n": 501, "drawings": True}, "n", "invalid_value"),
        (MOLECULES, {"drawings": True, "format": "csv"}, "drawings", "invalid_value"),
        (MOLECULES, {"format": "csv", "stream": True}, "format", "invalid_value"),
        (MOLECULES, {"attempts": 2}, "attempts", "invalid_value"),
        (MOLECULES, {"attempts": 65, "valid_only": True}, "attempts", "invalid_value"),
        (MOLECULES, {"scaffold": "C" * 257}, "scaffold", "invalid_value"),
        (MOLECULES, {"scaffold": None}, "scaffold", "invalid_type"),
        (MOLECULES, {"temperature": 2.1}, "temperature", "invalid_value"),
        (MOLECULES, {"top_p": 0}, "top_p", "invalid_value"),
        (MUSIC, {"n": 65}, "n", "invalid_value"),
        (MUSIC, {"bars": 0}, "bars", "invalid_value"),
        (MUSIC, {"meter": "four"}, "meter", "invalid_value"),
        (MUSIC, {"tempo": 19}, "tempo", "invalid_value"),
        (MUSIC, {"formats": []}, "formats", "invalid_value"),
        (MUSIC, {"formats": ["mp3"]}, "formats[0]", "invalid_value"),
        (MUSIC, {"formats": ["abc", "abc"]}, "formats", "invalid_value"),
        (MUSIC, {"temperature": 0}, "temperature", "invalid_value"),
        (MUSIC, {"prompt": "A" * 4001}, "prompt", "invalid_value"),
        (FORECASTS, {"input": SERIES}, "horizon", "invalid_value"),
        (FORECASTS, {"input": SERIES, "horizon": 2, "times": [3.0]}, "horizon", "invalid_value"),
        (FORECASTS, {"input": {"values": []}, "horizon": 2}, "input.values", "invalid_value"),
        (FORECASTS, {"input": {"values": [1, 2], "times": [0]}, "horizon": 1}, "input.times", "invalid_value"),
        (FORECASTS, {"input": {"values": [1, 2], "times": [1, 1]}, "horizon": 1}, "input.times", "invalid_value"),
        (FORECASTS, {"input": [SERIES, {"values": ["a"]}], "horizon": 2}, "input[1].values[0]", "invalid_type"),
        (FORECASTS, {"input": [SERIES] * 257, "horizon": 2}, "input", "invalid_value"),
        (FORECASTS, {"input": SERIES, "horizon": 2, "quantiles": [0.5, 1.0]}, "quantiles[1]", "invalid_value"),
        (FORECASTS, {"input": SERIES, "horizon": 2, "quantiles": []}, "quantiles", "invalid_value"),
        (FORECASTS, {"input": {**SERIES, "period": 0}, "horizon": 2}, "input.period", "invalid_value"),
        (FORECASTS, {"input": {**SERIES, "times": ["2024", "soon"]}, "horizon": 2}, "input.times[1]", "invalid_value"),
        (FORECASTS, {"input": {**SERIES, "times": ["2024-01", 2]}, "horizon": 2}, "input.times", "invalid_value"),
        (FORECASTS, {"input": {**SERIES, "times": ["2024", "2024-02"]}, "horizon": 2}, "input.times", "invalid_value"),
        (FORECASTS, {"input": {**SERIES, "times": ["2024", "2023"]}, "horizon": 2}, "input.times", "invalid_value"),
        (FORECASTS, {"input": SERIES, "times": ["2024-01"]}, "times", "invalid_value"),
    ],
)
async def test_a_bad_body_is_refused_by_path_and_code(
    refusing: Gateway, path: str, fields: dict[str, Any], param: str, code: str
) -> None:
    response = await post(refusing, path, asked(**fields))
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code), error
    assert len(error["message"]) < 300
    assert refusing.dispatcher.calls == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([PERSON, 5], "Field 'input[1]': Input should be a valid string or Input should be an object; got 5."),
        ([{"age": []}], "Field 'input[0].age': Input should be a valid string or Input should be a valid number or "),
        ([{}], "Field 'input[0]': Dictionary should have at least 1 item after validation, not 0; got an object."),
    ],
)
async def test_a_refusal_says_what_an_item_may_be(refusing: Gateway, given: list[object], words: str) -> None:
    message = (await post(refusing, SCORES, asked(input=given))).json()["error"]["message"]
    assert message.startswith(words)


@pytest.mark.parametrize(
    ("end", "param"),
    [
        ({"seed": 1, "image": "data:image/png;base64,AAAA"}, "end.seed"),
        ({}, "end.seed"),
        ({"image": ""}, "end.image"),
    ],
)
async def test_an_interpolations_end_is_a_seed_or_an_image(refusing: Gateway, end: dict[str, Any], param: str) -> None:
    response = await post(refusing, "/v1/interpolations", {"model": "painter", "start": {"seed": 1}, "end": end})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, "invalid_value")


async def test_a_number_that_json_has_not_is_refused(refusing: Gateway) -> None:
    content = json.dumps(asked(input=[{"age": float("nan")}]))
    async with refusing.client() as client:
        response = await client.post(SCORES, content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input[0].age")


async def test_a_model_without_the_task_says_what_it_does(refusing: Gateway) -> None:
    error = (await post(refusing, SCORES, {"model": MODEL, "input": ["x"]})).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_task", "model")
    assert "chat" in error["message"]


async def test_pictures_may_be_given_up_to_the_limit_of_images() -> None:
    gateway = list_gateway(max_body=1000, max_image_body=4000)
    assert (await post(gateway, SCORES, asked(input=["x" * 3000]))).status_code == 200
    response = await post(gateway, SCORES, asked(input=["x" * 4000]))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
