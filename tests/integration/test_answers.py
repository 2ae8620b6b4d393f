"""The whole way, from the official client to a model and back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from tests.integration.conftest import LocalFleet

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0.0, "max_tokens": 24}


def test_the_official_client_gets_the_same_answer_whole_and_streamed(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client:
        whole = client.chat.completions.create(model="llama", messages=QUESTION, **GREEDY)
        pieces = list(client.chat.completions.create(model="llama", messages=QUESTION, stream=True, **GREEDY))
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert whole.choices[0].message.content == streamed
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 24


def test_an_answer_is_the_same_whatever_it_is_expected_to_be(local_fleet: LocalFleet) -> None:
    asked = {"model": "llama", "messages": QUESTION, **GREEDY, "extra_body": {"ignore_eos": True}}
    with local_fleet.openai() as client:
        whole = client.chat.completions.create(**asked)
        said = whole.choices[0].message.content
        for expected in (said, "The capital of France is Paris.", [{"type": "text", "text": said[:9]}]):
            again = client.chat.completions.create(prediction={"type": "content", "content": expected}, **asked)
            assert again.choices[0].message.content == said
            assert again.usage.total_tokens == whole.usage.total_tokens
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(prediction={"type": "content", "content": said * 5000}, **asked)
    assert (refused.value.param, refused.value.code) == ("prediction", "context_length_exceeded")


def test_every_model_of_every_service_is_listed_ready_and_answers(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client, local_fleet.http() as http:
        for model in ("llama", "tight", "qwen"):
            done = client.completions.create(model=model, prompt="def add(", max_tokens=4)
            assert done.choices[0].finish_reason in ("stop", "length")
        listed = http.get("/v1/models").json()["data"]
    states = {model["id"]: model["state"] for model in listed}
    assert {states[model] for model in ("llama", "tight", "qwen")} == {"ready"}


def test_a_seed_gives_the_same_text_alone_and_among_others(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client, ThreadPoolExecutor(1) as pool:
        alone = client.completions.create(model="llama", prompt="a", max_tokens=20, seed=5)
        others = {"prompt": ["b c", "a d", "x"] * 4, "max_tokens": 800, "extra_body": {"ignore_eos": True}}
        crowd = pool.submit(client.completions.create, model="llama", **others)
        while local_fleet.metric("castalia_running_rows", model="llama") < 12:
            pass
        again = client.completions.create(model="llama", prompt="a", max_tokens=20, seed=5)
        assert not crowd.done(), "the others ended first, so the test proves nothing"
        assert len(crowd.result().choices) == 12
    assert alone.choices[0].text == again.choices[0].text


def test_a_request_that_can_never_fit_is_refused_and_others_wait_their_turn(local_fleet: LocalFleet) -> None:
    fits = {"model": "tight", "messages": QUESTION, "max_tokens": 400, "extra_body": {"ignore_eos": True}}
    with local_fleet.openai() as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="tight", messages=QUESTION, max_tokens=5000)
        streams = [client.chat.completions.create(stream=True, **fits) for _ in range(4)]
        most = 0.0
        for stream in streams:
            most = max(most, local_fleet.metric("castalia_running_rows", model="tight"))
            assert list(stream)[-1].choices[0].finish_reason == "length"
        neighbour = client.completions.create(model="llama", prompt="a", max_tokens=4)
    assert neighbour.choices
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    assert most < 4, "all four ran at once, so the test proves nothing"


def test_prompts_are_in_no_log(local_fleet: LocalFleet) -> None:
    marker = "xyzzy-plugh-4711"
    with local_fleet.openai() as client:
        client.completions.create(model="llama", prompt=marker, max_tokens=1)
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="llama", prompt=marker, max_tokens=10**6)
    written = [path for path in Path(local_fleet.state.folder).rglob("*") if path.suffix in (".log", ".err", ".out")]
    assert len(written) > 5
    logs = [Path(local_fleet.state.log), *written]
    assert not [path for path in logs if marker in path.read_text(errors="replace")]
