"""Forms of answers: what can be followed, what is refused and how soon, what is kept, and a row's way back."""

from __future__ import annotations

import json
import random
import re
import time
from typing import Any

import pytest

from services.engine.counts import Counts
from services.nn.text import grammar, grammar_trial
from services.nn.text.detokenizer import make_detokenizer
from services.nn.text.grammar import Follower, Grammars, make_grammars
from services.nn.text.tokenizer import Vocabulary
from shared.errors import InvalidRequest, Overloaded
from shared.schemas.forms import AnswerForm
from tests.checkpoints import make_tokenizer
from tests.shape_checkpoints import word_tokenizer
from tests.unit.nn.text.test_detokenizer import sentencepiece_like

WIDTH = 512
ENDS = frozenset({0, 2})


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(make_tokenizer())


@pytest.fixture
def grammars(vocabulary: Vocabulary) -> Grammars:
    return Grammars(vocabulary, WIDTH, ENDS)


def regex(text: str) -> AnswerForm:
    return AnswerForm("regex", text, "structured_outputs.regex")


def schema(**fields: Any) -> AnswerForm:
    return AnswerForm("json", json.dumps(fields), "structured_outputs.json")


def ids_of(allowed: bytes) -> set[int]:
    bits = int.from_bytes(allowed, "little")
    return {i for i in range(8 * len(allowed)) if bits >> i & 1}


def read(follower: Follower, vocabulary: Vocabulary, text: str) -> bool:
    """Feed a text's tokens, each of which must be allowed; whether the last one made it whole."""
    whole = False
    for made, token in enumerate(vocabulary.encode(text)):
        assert not whole
        assert token in ids_of(follower.allowed(made)), vocabulary.token_bytes(token)
        whole = follower.completes(token, made)
    return whole


def test_the_end_is_allowed_where_the_form_is_met_and_padding_and_special_tokens_never_are(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    follower = grammars.compile(regex("ab*")).follow()
    (a,), (b,) = vocabulary.encode("a"), vocabulary.encode("b")
    assert ids_of(follower.allowed(0)) == {a}
    assert not follower.completes(a, 0)
    assert ids_of(follower.allowed(1)) == {b, *ENDS}
    anything = ids_of(grammars.compile(regex(r"(.|\n)*")).follow().allowed(0))
    assert max(anything) < vocabulary.size <= WIDTH
    assert anything & vocabulary.special_ids == ENDS


def test_an_answer_is_whole_with_its_last_token(grammars: Grammars, vocabulary: Vocabulary) -> None:
    form = schema(type="object", properties={"a": {"type": "integer"}}, required=["a"], additionalProperties=False)
    assert read(grammars.compile(form).follow(), vocabulary, '{"a":12}')
    assert read(grammars.compile(regex('a/\n\\d"{3}[/]x')).follow(), vocabulary, 'a/\n7"""/x')
    choice = AnswerForm("choice", ('a/"b', "ü🙂\n"), "structured_outputs.choice")
    for text in ('a/"b', "ü🙂\n"):
        assert read(grammars.compile(choice).follow(), vocabulary, text)


def test_a_follower_finds_its_way_back_from_a_step_that_came_to_nothing(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    follower = grammars.compile(regex("ab")).follow()
    (a,), (b,) = vocabulary.encode("a"), vocabulary.encode("b")
    first = follower.allowed(0)
    for _ in range(3):
        follower.completes(a, 0)
        assert follower.allowed(0) == first
    follower.completes(a, 0)
    second = follower.allowed(1)
    for _ in range(3):
        assert follower.completes(b, 1)
        assert follower.allowed(1) == second


def test_a_follower_that_fails_allows_nothing_and_its_grammar_goes_on(
    grammars: Grammars, vocabulary: Vocabulary
) -> None:
    compiled = grammars.compile(regex("ab"))
    failed = compiled.follow()
    assert not failed.completes(vocabulary.encode("b")[0], 0)
    assert ids_of(failed.allowed(1)) == set()
    assert read(compiled.follow(), vocabulary, "ab")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (schema(type="objct"), "objct"),
        (schema(type="string", pattern="("), "regex parse error"),
        (schema(type="array", uniqueItems=True), "uniqueItems"),
        (schema(type="string", minLength=5, maxLength=2), "minLength"),
        ({"$ref": "https://example.com/schema"}, "example.com"),
        ({"x-guidance": {"lenient": True}}, "x-guidance"),
        (regex("a("), "unclosed group"),
        (regex("(?=a)b"), "look-around"),
        (regex(r"[^\s\S]"), "nothing has it"),
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_refused_with_the_reason_and_its_field(
    grammars: Grammars, form: AnswerForm | dict[str, Any], words: str
) -> None:
    if isinstance(form, dict):
        form = schema(**form)
    with pytest.raises(InvalidRequest, match=words) as caught:
        grammars.compile(form)
    assert caught.value.param == form.param


@pytest.mark.parametrize(
    "form",
    [
        schema(type="integer", multipleOf=99_999_989),  # a state of the lexer for each remainder
        schema(allOf=[{"anyOf": [{"properties": {f"k{i}_{j}": {}}} for j in range(4)]} for i in range(12)]),
    ],
    ids=["multiple", "product"],
)
def test_what_costs_too_much_is_refused_in_bounded_time_and_once(grammars: Grammars, form: AnswerForm) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="cannot have this form"):
        grammars.compile(form)
    assert time.process_time() - began < 2  # of this process: the trial's time is the kernel's to bound
    began = time.monotonic()
    with pytest.raises(InvalidRequest):
        grammars.compile(form)
    assert time.monotonic() - began < 0.1


def test_a_machine_without_time_refuses_no_form_for_good(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_trial, "TRIAL_S", 0.001)
    with pytest.raises(Overloaded):
        grammars.compile(regex("abc"))
    monkeypatch.undo()
    assert grammars.compile(regex("abc"))


@pytest.mark.parametrize(
    "form",
    [
        schema(allOf=[{"type": "integer", "multipleOf": each} for each in (7919, 7927, 7933)]),
        schema(properties={f"p{i}": {"type": "string"} for i in range(500)}),
        regex("|".join(f"(a|b)*{'a' * i}(a|b){{{99 * i}}}" for i in range(1, 20))),
        regex(r"(\p{L}{1,500}\P{N}{1,500}){500}" * 20),
        regex("((((a{1,99}){1,99}){1,99}){1,99}){1,99}"),
    ],
    ids=["multiples", "properties", "alternatives", "classes", "repetitions"],
)
def test_what_is_hard_to_follow_takes_no_step_long(grammars: Grammars, form: AnswerForm) -> None:
    follower, draws = grammars.compile(form).follow(), random.Random(0)
    for made in range(100):
        began = time.process_time()
        allowed = sorted(ids_of(follower.allowed(made)) - ENDS)
        assert time.process_time() - began < 0.2
        if not allowed or follower.completes(draws.choice(allowed), made):
            break


def test_as_many_grammars_are_kept_as_may_be_and_the_last_used_ones(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "KEPT_GRAMMARS", 2)
    kept, forgotten, new = map(regex, "abc")
    first, second = grammars.compile(kept), grammars.compile(forgotten)
    assert grammars.compile(kept) is first
    grammars.compile(new)
    assert len(grammars) == 2
    assert grammars.compile(kept) is first
    assert grammars.compile(forgotten) is not second


def test_no_tenant_learns_by_time_what_forms_another_asked_for(grammars: Grammars) -> None:
    own = grammars.compile(regex("secret"), "a")
    assert grammars.compile(regex("secret"), "b") is not own
    assert grammars.compile(regex("secret"), "a") is own


def test_forms_are_counted_by_what_became_of_them_for_the_model_that_asked(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter = Counts(), Counts()
    grammars.compile(regex("ab"), "", base)
    seconds = base.snapshot()["form_seconds"]
    assert base.snapshot() == {"forms_compiled": 1, "form_seconds": seconds}
    assert seconds > 0
    grammars.compile(regex("ab"), "", adapter)
    assert adapter.snapshot() == {"forms_found": 1}
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            grammars.compile(regex("a("), "", base)
    monkeypatch.setattr(grammar_trial, "TRIAL_S", 0.001)
    with pytest.raises(Overloaded):
        grammars.compile(regex("abc"), "", base)
    seconds = base.snapshot()["form_seconds"]
    assert base.snapshot() == {"forms_compiled": 1, "forms_refused": 2, "forms_found": 1, "form_seconds": seconds}


def test_pieces_of_sentencepiece_write_the_form_as_the_client_reads_it() -> None:
    vocabulary = Vocabulary(sentencepiece_like())
    detokenizer = make_detokenizer(vocabulary)
    compiled = Grammars(vocabulary, 280, frozenset({2})).compile(regex("a( the| spring|é|🙂){1,12}"))
    for seed in range(8):
        follower, draws, prompt = compiled.follow(), random.Random(seed), vocabulary.encode("the")
        state, text = detokenizer.start(prompt), ""
        for made in range(60):
            token = draws.choice(sorted(ids_of(follower.allowed(made))))
            if token == 2:
                break
            whole = follower.completes(token, made)
            state, piece = detokenizer.push(state, token)
            text += piece
            if whole:
                break
        text += detokenizer.flush(state)
        assert re.fullmatch("a( the| spring|é|🙂){1,12}", text), text


def test_models_without_an_end_have_no_grammars(vocabulary: Vocabulary) -> None:
    assert make_grammars(vocabulary, WIDTH, frozenset()) is None
    assert make_grammars(vocabulary, WIDTH, ENDS) is not None


def test_word_pieces_have_no_grammars_for_their_text_is_not_their_join() -> None:
    assert make_grammars(Vocabulary(word_tokenizer()), WIDTH, ENDS) is None
