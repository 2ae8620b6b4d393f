"""What a test asks for, and of whom: from options and /v1/models."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import pytest

from loadtests.generator.exchange import Client
from loadtests.generator.options import BadOption, LoadOptions
from loadtests.generator.plan import CannotAsk, Files, Plan, make_plan
from tests.unit.loadtests.fake_fleet import PICTURE, FakeFleet


def options(**given: Any) -> LoadOptions:
    return LoadOptions.of(Namespace(**given))


def plan(fleet: FakeFleet, *, named: tuple[str, ...] = (), is_mixed: bool = True, **given: Any) -> Plan:
    chosen = options(**given)
    with closing(Client(fleet.url, connections=1)) as client:
        return make_plan(client, chosen, Files.of(chosen), named=named, is_mixed=is_mixed)


def asked(found: Plan, task: str) -> list[str]:
    return [each.model for each in found.targets[task]]


def test_all_that_the_fleet_can_answer_is_asked_alike_of_the_first_model_that_is_ready(fake_fleet: FakeFleet) -> None:
    fake_fleet.tasks = ("chat", "image", "tokenize")
    found = plan(fake_fleet)
    assert found.weights == {"chat": 1.0, "image": 1.0}
    assert asked(found, "chat") == asked(found, "image") == ["good"]  # before it in the list is a cold one


def test_modalities_have_the_weights_that_are_given(fake_fleet: FakeFleet) -> None:
    found = plan(fake_fleet, modalities="chat=8, image", model="good")
    assert found.weights == {"chat": 8.0, "image": 1.0}
    assert set(found.targets) == {"chat", "image"}


def test_named_classes_are_asked_for_beside_the_mix_or_alone(fake_fleet: FakeFleet) -> None:
    alone = plan(fake_fleet, named=("music",), is_mixed=False)
    assert (set(alone.targets), alone.weights) == ({"music"}, {})
    assert set(plan(fake_fleet, named=("music",), modalities="chat").targets) == {"music", "chat"}


def test_models_are_named_by_patterns(fake_fleet: FakeFleet) -> None:
    assert asked(plan(fake_fleet, modalities="chat", model="refuses*,good"), "chat") == [
        "good",
        "refuses",
        "refuses-badly",
    ]
    assert len(asked(plan(fake_fleet, modalities="chat", model="*"), "chat")) > 5


def test_models_are_asked_about_what_they_made_and_edits_have_masks(fake_fleet: FakeFleet) -> None:
    found = plan(fake_fleet, modalities="edit,score,variation")
    url = f"data:image/png;base64,{PICTURE}"
    assert found.targets["edit"][0].given == found.targets["score"][0].given == (url,) * 4
    assert len(found.targets["edit"][0].masks) == 4
    assert len(fake_fleet.of("/v1/images/generations")) == 1, "asked once for all modalities"


@pytest.mark.parametrize(
    ("does", "modality", "given"),
    [("record", "record", {"a": 0}), ("molecule", "molecule", "C"), ("chat", "text", "What is the capital of France?")],
)
def test_things_to_score_are_of_the_kind_that_a_model_takes(
    fake_fleet: FakeFleet, does: str, modality: str, given: object
) -> None:
    fake_fleet.tasks, fake_fleet.modalities = (does, "score"), (modality,)
    assert plan(fake_fleet, modalities="score").targets["score"][0].given[0] == given


def test_a_model_that_makes_nothing_to_be_asked_about_is_told(fake_fleet: FakeFleet) -> None:
    fake_fleet.tasks = ("score",)
    with pytest.raises(CannotAsk, match="score of good: nothing to ask about: it makes none of image"):
        plan(fake_fleet)


def test_a_model_that_refuses_to_make_anything_is_told(fake_fleet: FakeFleet) -> None:
    with pytest.raises(CannotAsk, match=r"score of wrong: .* 400 invalid_value"):
        plan(fake_fleet, modalities="score", model="wrong")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modalities": "chat", "model": "no-such"}, "no model of --model no-such does chat; these do: cold, good"),
        ({"modalities": "music"}, "no model does music; the fleet has: cold, good"),
        ({"model": "no-such"}, "no model of --model no-such does any modality"),
    ],
)
def test_what_nobody_does_is_told_with_who_is_there(fake_fleet: FakeFleet, given: dict[str, Any], message: str) -> None:
    fake_fleet.tasks = ("chat",)
    with pytest.raises(CannotAsk, match=message):
        plan(fake_fleet, **given)


def test_a_server_of_another_kind_is_told(fake_fleet: FakeFleet) -> None:
    fake_fleet.key = "k"
    with pytest.raises(CannotAsk, match="GET /v1/models: 401"):
        plan(fake_fleet)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modalities": "chat=0"}, "--modalities: a weight must be a number over 0; got 'chat=0'"),
        ({"modalities": "chat=lots"}, "got 'chat=lots'"),
        ({"modalities": "talk"}, "--modalities: modalities are chat, .*; got talk"),
        ({"per_user": 0}, "--per-user: .* greater than 0; got 0"),
        ({"max_tokens": "many"}, "--max-tokens: .*; got 'many'"),
        ({"trace": "x.csv", "shape": "ramp"}, "--trace .*--shape cannot"),
        ({"trace": "/no/such.csv"}, "--trace: .*No such file"),
        ({"objectives": "/no/such.yaml"}, "--objectives: .*No such file"),
    ],
)
def test_an_option_that_is_wrong_is_named(fake_fleet: FakeFleet, given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        plan(fake_fleet, **given)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("objectives", "talk: {end_to_end_s: 1}", "--objectives: modalities are .*; got talk"),
        ("objectives", "chat: {end_to_end_s: soon}", "--objectives: .*chat.end_to_end_s: .*; got 'soon'"),
        ("objectives", "chat: {", "--objectives: "),
        ("inputs", "voices: [a]", "--inputs: .*voices: "),
        ("trace", "seconds\n1\nx\n", "--trace: .*line 3"),
        ("trace", "seconds\n", "--trace: .* holds no request"),
        ("trace", "seconds,modality\n1,talk\n", "--trace: modalities are .*; got talk"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_place(
    fake_fleet: FakeFleet, tmp_path: Path, option: str, text: str, message: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(BadOption, match=message):
        plan(fake_fleet, **{option: str(path)})


def test_a_trace_is_asked_of_the_models_that_it_names(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("seconds,modality,model\n0,chat,refuses\n1,chat,good\n")
    found = plan(fake_fleet, trace=str(path), modalities="chat")
    assert asked(found, "chat") == ["good", "refuses"]
    path.write_text("seconds,modality,model\n0,chat,good\n1,chat,nobody\n")
    with pytest.raises(CannotAsk, match="--trace, request 2: 'nobody' does not do chat"):
        plan(fake_fleet, trace=str(path), modalities="chat")


def test_what_locusts_page_sends_as_texts_is_read_as_numbers() -> None:
    found = options(seed="5", max_tokens="", per_user="0.5", deadline="2", shape="", objectives="")
    assert (found.seed, found.max_tokens, found.per_user, found.deadline) == (5, None, 0.5, 2.0)
    assert (found.shape, found.objectives) == (None, None)


def test_a_plan_reaches_a_worker_as_it_was(fake_fleet: FakeFleet, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("seconds,modality,model\n0,chat,good\n")
    found = plan(fake_fleet, modalities="chat,score", trace=str(path))
    found = found.model_copy(update={"trace": Files.of(options(trace=str(path))).trace, "share": 1})
    sent = msgpack.loads(msgpack.dumps(found.model_dump(mode="json")), raw=False)
    assert Plan.model_validate(sent) == found
