"""Calls of tools are read out of answers: the same however these are cut, nothing lost, nothing streamed too soon."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.nn.text.call_formats import HERMES, LLAMA, MISTRAL, CallFormat
from services.nn.text.calls import CallPiece, CallReader, CallState, Piece

NAMES = frozenset({"get_weather", "add"})
FORMATS = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL}
WEATHER = {"city": 'Köln "{[" \\ }', "days": [1, {"a": None}]}


def reader(form: CallFormat, *, parallel: bool = True, opened: bool = False) -> CallReader:
    return CallReader(form, NAMES, b"key", parallel, opened)


def read(reading: CallReader, *texts: str) -> tuple[CallState, list[Piece]]:
    state, pieces = reading.start(), list[Piece]()
    for i, text in enumerate(texts):
        state, more = reading.read(state, text, last=i == len(texts) - 1)
        pieces += more
    return state, pieces


def gathered(pieces: list[Piece]) -> tuple[str, list[tuple[str, str, str]]]:
    """All the text, and (id, name, arguments) of each call."""
    calls: list[tuple[str, str, str]] = []
    for piece in pieces:
        if isinstance(piece, CallPiece):
            if piece.call == len(calls):
                calls.append((piece.id or "", piece.name or "", ""))
            identity, name, arguments = calls[piece.call]
            calls[piece.call] = (identity, name, arguments + piece.arguments)
    return "".join(piece for piece in pieces if isinstance(piece, str)), calls


def written(form: CallFormat, *calls: tuple[str, object]) -> str:
    """Calls as a model writes them."""
    objects = [json.dumps({"name": name, form.arguments: made}, ensure_ascii=False) for name, made in calls]
    return form.mark + form.head + form.between.join(objects) + form.tail


TWO = (("get_weather", WEATHER), ("add", {}))


def examples(form: CallFormat) -> dict[str, tuple[str, str, list[tuple[str, object]]]]:
    """Answers, their text, and their calls."""
    one, two = written(form, TWO[0]), written(form, *TWO)
    (key, between) = (form.arguments, form.between)
    other = f'{form.mark}{form.head}{{"{key}": {{"a": "}}"}}, "name": "add"}}{form.tail}'
    more = f'{form.mark}{form.head}{{"name": "add", "{key}": {{"a": 1}}, "id": "x}}y"}}{form.tail}'
    loose = f'{form.mark}\n {form.head} {{ "name" :"add",\n"{key}":\t{{}} }} {form.tail} \n'
    unknown = written(form, ("steal", {"a": 1}))
    found: dict[str, tuple[str, str, list[tuple[str, object]]]] = {
        "one": (one, "", [TWO[0]]),
        "two": (two, "", [*TWO]),
        "space before": (f"\n\n{one}", "", [TWO[0]]),
        "another order": (other, "", [("add", {"a": "}"})]),
        "another field": (more, "", [("add", {"a": 1})]),
        "loose": (loose, "", [("add", {})]),
        "unknown": (unknown, unknown, []),
        "no object": (f"{form.mark} [1, 2] and on", f"{form.mark} [1, 2] and on", []),
        "text": ("Just {text} <tool and [TOOL_ of it \n", "Just {text} <tool and [TOOL_ of it \n", []),
        "empty": ("", "", []),
        "space": (" \n ", " \n ", []),
        "cut in its name": (one[: one.index("weather")], one[: one.index("weather")], []),
        "cut mark": (form.mark[:-1] or "x", form.mark[:-1] or "x", []),
        "json": ('{"answer": {"name": "add"}}', '{"answer": {"name": "add"}}', []),
        "unlike behind": (one + " and text ", " and text ", [TWO[0]]),
        "second is none": (
            written(form, TWO[0]).removesuffix(form.tail) + between + '{"x": 1}',
            (between if not form.repeats else "\n<tool_call>\n") + '{"x": 1}',
            [TWO[0]],
        ),
    }
    if form.mark:
        found |= {
            "text before": (f"Let me see.\n{two}", "Let me see.", [*TWO]),
            "mark twice": (f"{form.mark}{form.mark} {one}", f"{form.mark}{form.mark}", [TWO[0]]),
            "call behind none": (f"a {unknown} b {one}", f"a {unknown} b", [TWO[0]]),
        }
    return found


CASES = [
    pytest.param(form, *example, id=f"{name}: {case}")
    for name, form in FORMATS.items()
    for case, example in examples(form).items()
]


@pytest.mark.parametrize(("form", "answer", "text", "calls"), CASES)
def test_an_answer_is_read_the_same_however_it_is_cut(
    form: CallFormat, answer: str, text: str, calls: list[tuple[str, object]]
) -> None:
    reading = reader(form)
    whole = gathered(read(reading, answer)[1])
    assert whole[0] == text
    assert [(name, json.loads(arguments)) for _, name, arguments in whole[1]] == calls
    cuts = [(at,) for at in range(len(answer) + 1)]
    draws = random.Random(0)
    cuts += [tuple(sorted(draws.sample(range(len(answer) + 1), 2))) for _ in range(100) if answer]
    for cut in [*cuts, tuple(range(len(answer) + 1))]:
        texts = [answer[start:stop] for start, stop in pairwise((0, *cut, len(answer)))]
        assert gathered(read(reading, *texts)[1]) == whole, texts


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(list(FORMATS.values())),
    parts=st.lists(
        st.sampled_from(
            [
                *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", '{"name": "add", ', '"arguments": '),
                *('"parameters": ', "{", "}", "}}", '"', "\\", "[", "]", ",", ";", " ", "\n", "x", '{"x": 1}', ":"),
            ]
        ),
        max_size=14,
    ),
    data=st.data(),
)
def test_no_answer_is_lost_or_read_differently_by_its_pieces(
    form: CallFormat, parts: list[str], data: st.DataObject
) -> None:
    answer = "".join(parts)
    whole = gathered(read(reader(form), answer)[1])
    if not whole[1]:
        assert whole[0] == answer
    cut = data.draw(st.lists(st.integers(0, len(answer)), max_size=5).map(sorted))
    texts = [answer[start:stop] for start, stop in pairwise((0, *cut, len(answer)))]
    assert gathered(read(reader(form), *texts)[1]) == whole
    assert gathered(read(reader(form), *answer, "")[1]) == whole


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_the_name_comes_as_soon_as_it_is_known_and_arguments_as_they_are_written(form: CallFormat) -> None:
    reading = reader(form)
    head, tail = written(form, ("add", {"a": "bc"})).split('"bc"')
    state, pieces = reading.read(reading.start(), head, last=False)
    assert pieces == (CallPiece(0, reading.call_id(0), "add", '{"a": '),)
    for text in ('"', "b", "c", '"'):
        state, pieces = reading.read(state, text, last=False)
        assert pieces == (CallPiece(0, None, None, text),)
    assert gathered(list(reading.read(state, tail, last=True)[1]))[0] == ""


def test_text_that_can_be_no_call_is_not_held_back() -> None:
    hermes, llama = reader(HERMES), reader(LLAMA)
    assert hermes.read(hermes.start(), "a <b <tool_cal", last=False)[1] == ("a <b",)
    assert hermes.read(hermes.start(), '<tool_call>{"x"', last=False)[1] == ('<tool_call>{"x"',)
    assert llama.read(llama.start(), '{"answer', last=False)[1] == ('{"answer',)
    assert llama.read(llama.start(), "hi {", last=False)[1] == ("hi {",)


def test_an_object_that_is_too_deep_or_too_long_to_be_one_is_text() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    for answer in (f'<tool_call>{{"arguments": {deep}, "name": "add"}}', "<tool_call>" + " " * 50_000 + "x"):
        assert gathered(read(reader(HERMES), *[answer[at : at + 97] for at in range(0, len(answer), 97)], "")[1]) == (
            answer,
            [],
        )


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_where_one_call_may_be_nothing_is_read_behind_it(form: CallFormat) -> None:
    state, pieces = read(reader(form, parallel=False), written(form, *TWO) + " and text")
    assert state.is_full
    assert [call[1] for call in gathered(pieces)[1]] == ["get_weather"]
    assert gathered(pieces)[0] == ""


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_behind_a_mark_in_the_prompt_a_call_comes_and_the_mark_is_not_said(form: CallFormat) -> None:
    opened = reader(form, opened=bool(form.mark))
    rest = written(form, *TWO).removeprefix(form.mark)
    assert [call[1] for call in gathered(read(opened, *rest)[1])[1]] == ["get_weather", "add"]
    for cut in ("", form.head + '{"na', "no call"):
        assert gathered(read(opened, *cut, "")[1]) == (cut, [])


def test_ids_are_of_openais_form_and_differ_by_call_and_by_row() -> None:
    ids = {CallReader(HERMES, NAMES, key).call_id(i) for key in (b"a", b"b") for i in range(50)}
    assert len(ids) == 100
    assert all(len(each) == 29 and each.startswith("call_") and each[5:].isalnum() for each in ids)
    assert reader(HERMES).call_id(3) == reader(LLAMA).call_id(3)


def test_an_answer_ends_with_a_piece_for_its_counts() -> None:
    reading = reader(HERMES)
    state, _ = reading.read(reading.start(), written(HERMES, TWO[1]), last=False)
    assert reading.read(state, "", last=True)[1] == (CallPiece(0, None, None, ""),)
    assert reading.read(reading.start(), "", last=True)[1] == ("",)
