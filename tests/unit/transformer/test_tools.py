"""Calls of tools from a model: they keep to their schemas, come alike alone and in company, and end where they must."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.engine.contract import FinishReason
from services.families.transformer.tasks import ChatTask
from services.nn.text import call_formats
from services.nn.text.call_plans import plan_calls
from services.nn.text.detokenizer import make_detokenizer
from services.nn.text.params import GenerateParams
from services.nn.text.rows import RowText, Spoken, TextRow
from services.nn.text.sampling import Seen
from services.nn.text.tasks import Generation
from services.nn.text.tokenizer import Vocabulary
from shared.errors import InvalidRequest, UnsupportedTask
from shared.events import TextDelta, ToolCallDelta
from shared.schemas.text import ChatRequest, TokenizeRequest
from tests.checkpoints import make_tokenizer
from tests.tool_templates import MISTRAL, TEMPLATES
from tests.unit.transformer.driver import Answer, Loaded, load_folder, load_pair

CONTEXT = 2048
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 9},
        "unit": {"enum": ["C", "F"]},
        "days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "maxItems": 2},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "integer", "minimum": 0, "maximum": 9}},
}
SCHEMAS: dict[str, Any] = {
    "weather": WEATHER,
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
]
NAMED = {"type": "function", "function": {"name": "weather"}}
Called = tuple[str, str, str]


def chat(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "hi"}]
    return ChatRequest.model_validate(
        {"model": "tiny", "messages": messages, "tools": TOOLS, "max_tokens": 300, **fields}
    )


def strict(*names: str) -> list[Any]:
    return [{**tool, "function": {**tool["function"], "strict": tool["function"]["name"] in names}} for tool in TOOLS]


@pytest.fixture
def loaded(folders: Callable[..., Path], request: pytest.FixtureRequest) -> Loaded:
    """With the template that the test names."""
    template = TEMPLATES[getattr(request, "param", "told")]
    return load_folder(folders("llama", context=CONTEXT, template=template), context_length=CONTEXT)


def answers(loaded: Loaded, *requests: ChatRequest, stagger: int = 0) -> list[Answer]:
    rows = [row for request in requests for row in loaded.tasks["chat"].prepare(request)]
    return loaded.run(rows, stagger=stagger)


def events_of(loaded: Loaded, answer: Answer) -> list[Any]:
    made = [loaded.tasks["chat"].encode(chunk) for chunk in answer.chunks]
    return [event for each in made for event in (each if isinstance(each, tuple) else (each,))]


def said(events: list[Any]) -> tuple[str, list[Called]]:
    """The text, and (id, name, arguments) of each call."""
    calls: list[Called] = []
    for event in events:
        if isinstance(event, ToolCallDelta):
            if event.id is not None:
                calls.append((event.id, event.name or "", ""))
            identity, name, arguments = calls[event.index]
            calls[event.index] = (identity, name, arguments + event.arguments)
    return "".join(event.text for event in events if isinstance(event, TextDelta)), calls


def check(calls: list[Called]) -> None:
    for _, name, arguments in calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])


@pytest.mark.parametrize("loaded", TEMPLATES, indirect=True)
def test_an_answer_that_must_call_has_valid_calls_and_nothing_else(loaded: Loaded) -> None:
    asked = [chat(tool_choice="required", n=6, seed=1), chat(tool_choice=NAMED, n=2, seed=2, temperature=0.5)]
    made = answers(loaded, *asked)
    found = [said(events_of(loaded, answer)) for answer in made]
    assert [answer.finish for answer in made] == [FinishReason.STOP] * 8
    for text, calls in found:
        assert text == ""
        assert calls
        check(calls)
    names = [[name for _, name, _ in calls] for _, calls in found]
    assert names[6:] == [["weather"], ["weather"]]
    assert {name for each in names for name in each} == {"weather", "now"}
    ids = [identity for _, calls in found[:6] for identity, _, _ in calls]
    assert len(set(ids)) == len(ids)


def test_the_counts_go_on_to_the_answers_last_token(loaded: Loaded) -> None:
    (answer,) = answers(loaded, chat(tool_choice=NAMED, seed=1))
    events = events_of(loaded, answer)
    counts = [event.completion_tokens for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == len(answer.tokens)
    assert len(events) > 10  # arguments come as they are written


@pytest.mark.parametrize("loaded", ["hermes", "mistral"], indirect=True)
def test_no_second_call_is_made_where_one_may_be(loaded: Loaded) -> None:
    made = answers(loaded, chat(tool_choice="required", parallel_tool_calls=False, n=6, seed=1))
    for answer in made:
        assert len(said(events_of(loaded, answer))[1]) == 1
        assert answer.finish is FinishReason.STOP


def test_a_seed_gives_calls_again_alone_in_company_and_step_by_step(loaded: Loaded) -> None:
    asked = [chat(tool_choice="required", seed=i) for i in range(2)]
    free = [chat(seed=9, max_tokens=30)]
    together, staggered = answers(loaded, *asked, *free), answers(loaded, *asked, *free, stagger=3)
    for request, one, other in zip([*asked, *free], together, staggered, strict=True):
        (alone,) = answers(loaded, request)
        assert alone.tokens == one.tokens == other.tokens
        assert said(events_of(loaded, alone)) == said(events_of(loaded, one)) == said(events_of(loaded, other))


def test_a_step_that_fails_and_is_done_again_changes_no_call(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    request = chat(tool_choice="required", seed=2)
    (expected,) = answers(loaded, request)
    commit, step, calls = loaded.sampler._commit, loaded.sampler.step, iter(range(10**6))

    def fails_often(move: Any) -> None:
        if next(calls) % 2:
            raise RuntimeError("injected")
        commit(move)

    def again(states: Any) -> Any:
        try:
            return step(states)
        except RuntimeError:
            return step(states)

    monkeypatch.setattr(loaded.sampler, "_commit", fails_often)
    monkeypatch.setattr(loaded.sampler, "step", again)
    (got,) = answers(loaded, request)
    assert said(events_of(loaded, got)) == said(events_of(loaded, expected))


def test_a_call_that_is_cut_says_so(loaded: Loaded) -> None:
    (answer,) = answers(loaded, chat(tool_choice=NAMED, seed=1, max_tokens=45))
    _, ((_, name, arguments),) = said(events_of(loaded, answer))
    assert (answer.finish, name) == (FinishReason.LENGTH, "weather")
    assert WEATHER["properties"].keys() >= set(re.findall(r'"(\w+)":', arguments))
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(arguments)


def test_log_probabilities_are_of_every_token_of_calls_too(loaded: Loaded) -> None:
    (answer,) = answers(loaded, chat(tool_choice=NAMED, seed=1, logprobs=True))
    entries = [entry for event in events_of(loaded, answer) for entry in getattr(event, "logprobs", None) or ()]
    assert len(entries) == len(answer.tokens)
    assert said(events_of(loaded, answer))[0] == ""


# What follows drives the choice of tokens by an answer's text, as a model that was taught calls would write it.
def spoken(
    loaded: Loaded, row: GenerateParams, text: str, *, mark: str = "\0", at_once: int = 1
) -> tuple[list[Any], TextRow]:
    """Each token of the text, which the row's grammar must allow; `mark` is written as its special token.

    `at_once`: so many tokens in a step, as where they were guessed ahead.
    """
    vocabulary = loaded.tasks["chat"].generation.vocabulary
    rows = RowText(make_detokenizer(vocabulary), frozenset({vocabulary.encode_markup("<|im_end|>")[0]}))
    state = TextRow(row, Seen(None, None), rows.start(row))
    events: list[Any] = []
    pieces = re.split(f"({re.escape(mark)})", text)
    tokens = [i for piece in pieces for i in (vocabulary.encode_markup if piece == mark else vocabulary.encode)(piece)]
    tokens.append(rows.eos[0])
    for start in range(0, len(tokens), at_once):
        said: list[Spoken] = []
        for token in tokens[start : start + at_once]:
            if state.follower is not None:
                assert int.from_bytes(state.follower.allowed(state.generated), "little") >> token & 1, text
            said.append(rows.speak(state, token, None, (), said))
            if said[-1].finish is not None:
                break
        for token, each in zip(tokens[start:], said, strict=False):
            state.take(token, each)
        if said[-1].chunk is not None:
            made = loaded.tasks["chat"].encode(said[-1].chunk)
            events += made if isinstance(made, tuple) else (made,)
        if said[-1].finish is not None:
            break
    return events, state


@pytest.mark.parametrize("loaded", TEMPLATES, indirect=True)
def test_more_calls_may_follow_where_the_template_takes_them_back(loaded: Loaded) -> None:
    (row,) = loaded.tasks["chat"].prepare(chat(tool_choice="required"))
    form = loaded.tasks["chat"].encoder.calls
    objects = [f'{{"name": "now", "{form.arguments}": {{}}}}'] * 3
    events, state = spoken(loaded, row, form.head + form.between.join(objects) + form.tail)
    assert len(said(events)[1]) == (1 if form.single else 3)
    assert state.calling.is_full == form.single


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "unit": "C"}}\n</tool_call>'


@pytest.mark.parametrize("options", [{}, {"tools": strict("weather")}], ids=["free", "strict"])
def test_a_model_that_may_call_says_text_and_calls(loaded: Loaded, options: dict[str, Any]) -> None:
    (row,) = loaded.tasks["chat"].prepare(chat(**options))
    assert (row.grammar is None) == (not options)
    now = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    text, calls = said(spoken(loaded, row, f"Let me see.\n{CALL}\n{now}")[0])
    assert (text, [name for _, name, _ in calls]) == ("Let me see.", ["weather", "now"])
    check(calls)
    assert said(spoken(loaded, row, "No <tool of mine")[0]) == ("No <tool of mine", [])


def test_calls_are_read_the_same_where_tokens_were_guessed_ahead(loaded: Loaded) -> None:
    (row,) = loaded.tasks["chat"].prepare(chat())
    answer = f"Let me see.\n{CALL}\n{CALL} so."
    expected, _ = spoken(loaded, row, answer)
    assert len(said(expected)[1]) == 2
    for at_once in (2, 3, 7):
        events, state = spoken(loaded, row, answer, at_once=at_once)
        assert said(events) == said(expected)
        assert events[-1].completion_tokens == state.generated == expected[-1].completion_tokens


def test_a_strict_function_is_held_to_its_schema_once_a_call_begins_and_others_to_an_object(loaded: Loaded) -> None:
    (row,) = loaded.tasks["chat"].prepare(chat(tools=strict("weather")))
    assert row.grammar is not None
    vocabulary = loaded.tasks["chat"].generation.vocabulary

    def allows(text: str) -> bool:
        follower = row.grammar.follow()
        for made, token in enumerate(vocabulary.encode(text)):
            if not int.from_bytes(follower.allowed(made), "little") >> token & 1:
                return False
            follower.completes(token, made)
        return True

    begun = 'Hm. <tool_call>\n{"name": "'
    assert allows(begun + 'weather", "arguments": {"city": "x", "unit": "F"')
    assert not allows(begun + 'weather", "arguments": {"town": "x"')
    assert not allows(begun + "steal")
    assert allows(begun + 'now", "arguments": {"any": [1]}}\n</tool_call> and')


def test_where_one_call_may_be_the_answer_ends_with_it(loaded: Loaded) -> None:
    for options in ({}, {"tools": strict("weather")}):
        (row,) = loaded.tasks["chat"].prepare(chat(parallel_tool_calls=False, **options))
        events, state = spoken(loaded, row, CALL + "\n" + CALL)
        assert len(said(events)[1]) == 1
        assert state.calling.is_full


def test_a_form_is_of_the_text_where_no_tool_is_called(loaded: Loaded) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["yes", "no"]}}}
    (row,) = loaded.tasks["chat"].prepare(chat(response_format=form))
    assert said(spoken(loaded, row, '"yes"')[0]) == ('"yes"', [])
    assert len(said(spoken(loaded, row, CALL)[0])[1]) == 1
    for answer in answers(loaded, chat(response_format=form, tool_choice="none", n=3)):
        assert json.loads(said(events_of(loaded, answer))[0]) in ("yes", "no")
    for answer in answers(loaded, chat(response_format=form, tool_choice=NAMED, n=2, seed=1)):
        check(said(events_of(loaded, answer))[1])


def test_tools_that_may_not_be_called_are_not_told(loaded: Loaded) -> None:
    (row,), (bare,) = (
        loaded.tasks["chat"].prepare(chat(**fields)) for fields in ({"tool_choice": "none"}, {"tools": None})
    )
    assert (row.prompt, row.calls, row.grammar) == (bare.prompt, None, None)


def test_a_mark_that_is_a_special_token_begins_calls() -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[TOOL_CALLS]"]})
    tokenizer.chat_template = MISTRAL
    vocabulary = Vocabulary(tokenizer)
    mark_id = vocabulary.special_id("[TOOL_CALLS]")
    assert mark_id is not None
    generation: Any = Generation(vocabulary, None, None)  # pyright: ignore[reportArgumentType]
    loaded = Loaded(None, {"chat": ChatTask(generation, None)}, 0, None, Path())  # pyright: ignore[reportArgumentType]
    plan = plan_calls(call_formats.MISTRAL, chat(), mark_id)
    assert plan is not None
    row = GenerateParams("chat", (5,), 100, 0, calls=plan.reader(0, (5,)))
    answer = 'Well [TOOL_CALLS] [{"name": "weather", "arguments": {"city": "ü"}, "id": "123456789"}, {"name": "now"}]'
    text, calls = said(spoken(loaded, row, answer, mark="[TOOL_CALLS]")[0])
    assert text == "Well"
    assert [(name, arguments) for _, name, arguments in calls] == [("weather", '{"city": "ü"}'), ("now", "{}")]
    with pytest.raises(InvalidRequest, match="no form can hold") as caught:
        plan_calls(call_formats.MISTRAL, chat(response_format={"type": "json_object"}), mark_id)
    assert caught.value.param == "response_format"
    forced = plan_calls(call_formats.MISTRAL, chat(tool_choice="required"), mark_id)
    assert forced is not None
    assert forced.opening == "[TOOL_CALLS]"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"properties": {"a": {"type": "objct"}}}, "objct"), ({"x-guidance": {}}, "x-guidance")],
    ids=["type", "guidance"],
)
def test_a_schema_that_cannot_be_followed_is_refused_by_its_place_where_it_must_be(
    loaded: Loaded, parameters: dict[str, Any], words: str
) -> None:
    bad = [TOOLS[1], {"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    with pytest.raises(InvalidRequest, match=words) as caught:
        answers(loaded, chat(tools=bad, tool_choice=NAMED))
    assert caught.value.param == "tools[1].function.parameters"
    if words == "objct":  # what need not be followed may be anything
        assert loaded.tasks["chat"].prepare(chat(tools=bad))


def test_tokenize_counts_as_chat_reads(loaded: Loaded) -> None:
    request = TokenizeRequest.model_validate(
        {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    )
    (ready,) = loaded.tasks["tokenize"].prepare(request)
    (row,) = loaded.tasks["chat"].prepare(chat())
    assert ready.answer.ids == row.prompt


def test_models_that_cannot_call_refuse_tools_by_name(shapes: Callable[..., Path]) -> None:
    pair, dialogue = load_pair(shapes("t5")), load_folder(shapes("dialogue"))
    tokenize = TokenizeRequest.model_validate({"model": "tiny", "messages": chat().messages, "tools": TOOLS})
    for task, body in (
        (pair.tasks["chat"], chat()),
        (dialogue.tasks["chat"], chat()),
        (dialogue.tasks["tokenize"], tokenize),
    ):
        with pytest.raises(InvalidRequest, match="cannot call tools") as caught:
            task.prepare(body)
        assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")
    with pytest.raises(UnsupportedTask):
        load_folder(shapes("dialogue"), conversation="none").tasks["tokenize"].prepare(tokenize)
