"""Encoder-decoders: batched targets equal `generate`, sources are read once, and what may be asked of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from services.engine.contract import FinishReason
from services.families.transformer.encoder_decoder.sampler import PairSampler
from services.nn.errors import UnsupportedModel
from services.nn.text.params import GenerateParams, SamplingOptions
from shared.config.transformer import EncoderDecoderModel
from shared.errors import ContextTooLong, InvalidRequest
from shared.schemas.text import ChatRequest, CompletionRequest
from tests.checkpoints import CHAT_TEMPLATE
from tests.shape_checkpoints import CONTEXT, EMBEDDINGS, EOS, PAD, PAIRS, make_pair, pair_tokenizer
from tests.unit.transformer.driver import GREEDY, Loaded, load_pair, random_prompts

Shapes = Callable[..., Path]
NEW = [12, 9, 1, 8, 7, 3]


@pytest.fixture(scope="module")
def pairs(shapes: Shapes) -> Callable[[str], Loaded]:
    made: dict[str, Loaded] = {}
    return lambda name: made.setdefault(name, load_pair(shapes(name)))


@pytest.fixture(scope="module")
def t5(pairs: Callable[[str], Loaded]) -> Loaded:
    return pairs("t5")


@pytest.fixture(scope="module")
def generated(shapes: Shapes) -> Callable[[str], list[list[int]]]:
    """What `generate` makes of the sources, each alone: tokens behind the start."""
    made: dict[str, list[list[int]]] = {}

    def generate(name: str) -> list[list[int]]:
        if name not in made:
            model: Any = AutoModelForSeq2SeqLM.from_pretrained(shapes(name)).eval()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Unfeasible length")  # a target that must end before it may
                made[name] = [
                    model.generate(torch.tensor([source]), max_new_tokens=new, do_sample=False)[0, 1:].tolist()
                    for source, new in zip(sources(), NEW, strict=True)
                ]
        return made[name]

    return generate


def sources() -> list[list[int]]:
    return [[*prompt, EOS] for prompt in random_prompts(len(NEW), longest=50, vocabulary=320, seed=3)]


def row(source: list[int], new: int, **options: Any) -> GenerateParams:
    return GenerateParams("completion", tuple(source), new, options.pop("seed", 0), **{"sampling": GREEDY, **options})


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "tiny", "prompt": "The spring", **fields})


def chat(*turns: tuple[str, str], **fields: Any) -> ChatRequest:
    messages = [{"role": role, "content": content} for role, content in turns]
    return ChatRequest.model_validate({"model": "tiny", "messages": messages, **fields})


@pytest.mark.parametrize("stagger", [0, 2])
@pytest.mark.parametrize("name", PAIRS)
def test_greedy_targets_in_a_batch_equal_generate(
    pairs: Callable[[str], Loaded], generated: Callable[[str], list[list[int]]], name: str, stagger: int
) -> None:
    loaded = pairs(name)
    rows = [row(source, new) for source, new in zip(sources(), NEW, strict=True)]
    for answer, expected, source in zip(loaded.run(rows, stagger=stagger), generated(name), sources(), strict=True):
        assert answer.tokens == expected
        assert answer.units == len(source) + len(expected)
    assert len(loaded.sampler.table) == 0


def test_the_checkpoints_make_targets_that_differ(generated: Callable[[str], list[list[int]]]) -> None:
    """Else the equality above would say little."""
    for name in PAIRS:
        assert len({tuple(tokens) for tokens in generated(name)}) == len(NEW)
        assert max(len(set(tokens)) for tokens in generated(name)) >= 4


def test_a_source_is_encoded_once_and_together_with_others_within_the_bound(
    t5: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    forward = t5.sampler.forward
    known = forward.read
    monkeypatch.setattr(forward, "read", lambda given: read.append([len(s.tokens) for s in given]) or known(given))
    rows = [row([7] * length, 6) for length in (90, 8, 8, 16, 3)]
    t5.run(rows)
    assert read == [[90], [8, 8, 16, 3]]  # 64 tokens a step, padding included, or one source alone


def test_a_forced_end_is_no_end_of_the_models_own(pairs: Callable[[str], Loaded]) -> None:
    bart = pairs("bart")
    (answer,) = bart.run([row(sources()[0], 9)])
    assert answer.tokens[-1] == EOS
    assert answer.finish is FinishReason.LENGTH
    (free,) = bart.run([row(sources()[0], 9, ignore_eos=True)])
    assert free.tokens[:8] == answer.tokens[:8]
    assert free.tokens[8] != EOS
    wanted = SamplingOptions(temperature=0, bias={EOS: 100.0})
    (ended,) = bart.run([row(sources()[0], 9, sampling=wanted)])
    assert ended.finish is FinishReason.STOP
    assert len(ended.tokens) == 6  # its min_length, which counts the start, and not the end


def test_tokens_that_the_checkpoint_bans_never_come(pairs: Callable[[str], Loaded]) -> None:
    marian = pairs("marian")
    wild = SamplingOptions(temperature=1.0, bias={PAD: 100.0})
    (answer,) = marian.run([row(sources()[0], 30, sampling=wild)])
    assert PAD not in answer.tokens


def test_log_probabilities_are_the_models_own_whatever_rules_there_are(
    shapes: Shapes, pairs: Callable[[str], Loaded]
) -> None:
    (answer,) = pairs("bart").run([row(sources()[0], 8, logprobs=2, ignore_eos=True)])
    model = AutoModelForSeq2SeqLM.from_pretrained(shapes("bart")).eval()
    with torch.no_grad():
        plain = model(
            input_ids=torch.tensor([sources()[0]]), decoder_input_ids=torch.tensor([[EOS, *answer.tokens[:-1]]])
        ).logits[0]
    plain = plain.log_softmax(-1)
    for at, entry in enumerate(answer.logprobs):
        assert entry.logprob == pytest.approx(plain[at, answer.tokens[at]].item(), abs=1e-4)
        assert [top.token_id for top in entry.top] == plain[at].topk(2).indices.tolist()


def test_a_target_whose_values_are_not_finite_fails_alone_and_leaves_no_trace(shapes: Shapes) -> None:
    loaded = load_pair(shapes("bart"))
    weight = loaded.sampler.forward.model.get_encoder().embed_positions.weight
    rows = [row([10, 11, 12], 8), row([13] * 40, 8), row([15] * 20, 8)]
    healthy = loaded.run([rows[0], rows[2]])
    with torch.no_grad():
        weight[32] = torch.nan  # where the second source alone has a token
        first, failed, last = loaded.run(rows)
        assert failed.finish is FinishReason.ERROR
        assert [first.tokens, last.tokens] == [answer.tokens for answer in healthy]
        runner = loaded.sampler.start(rows[0])  # so that the cache lives on
        assert loaded.run([rows[1]])[0].finish is FinishReason.ERROR
        assert loaded.run([rows[2]])[0].tokens == healthy[1].tokens
        loaded.sampler.release(runner)


def test_rows_are_admitted_by_the_longer_of_source_and_target(shapes: Shapes) -> None:
    # 2 layers of keys and values, each of own target and of source: 8 pieces of 32 floats a cell, and one for a copy.
    loaded = load_pair(shapes("bart"), cache_memory=3 * 64 * 9 * 32 * 4)
    sampler: PairSampler = loaded.sampler
    short, wide = row([7] * 60, 10), row([7] * 3, 70)
    assert sampler.fits(wide, [])
    states: list[Any] = [sampler.start(short), sampler.start(short)]
    assert sampler.fits(short, states)
    assert not sampler.fits(wide, states)  # three rows of 128 cells would be too many
    states.append(sampler.start(short))
    assert sampler._cache.nbytes <= sampler._cache.budget.limit
    for state in states:
        sampler.release(state)
    assert sampler._cache.nbytes == 0


@pytest.mark.parametrize(
    ("options", "prefix"),
    [
        ({}, ""),
        ({"prefix": "to Greek: "}, "to Greek: "),
        ({"purpose": "translation_en_to_de"}, "translate English to German: "),
        ({"purpose": "summarization", "prefix": "tl;dr "}, "tl;dr "),
    ],
)
def test_sources_begin_with_the_entrys_prefix_or_that_of_its_purpose(
    shapes: Shapes, options: dict[str, Any], prefix: str
) -> None:
    loaded = load_pair(shapes("t5"), **options)
    expected = tuple(pair_tokenizer()(prefix + "Good day")["input_ids"])
    assert expected[-1] == EOS
    (said,) = loaded.tasks["completion"].prepare(completion(prompt="Good day"))
    assert said.prompt == expected
    (asked,) = loaded.tasks["chat"].prepare(chat(("user", "hi"), ("assistant", "ho"), ("user", "Good day")))
    assert asked.prompt == expected
    (ids,) = loaded.tasks["completion"].prepare(completion(prompt=[5, 6]))
    assert ids.prompt == (5, 6)


def test_a_purpose_that_the_checkpoint_does_not_know_is_refused(shapes: Shapes) -> None:
    with pytest.raises(UnsupportedModel, match=r"no 'poetry'; there are: summarization, translation_en_to_de"):
        load_pair(shapes("t5"), purpose="poetry")


@pytest.mark.parametrize("told", ["translate to Greek:", "translate to Greek: "])
def test_a_system_message_is_the_prefix(t5: Loaded, told: str) -> None:
    expected = tuple(pair_tokenizer()("translate to Greek: Good day")["input_ids"])
    (asked,) = t5.tasks["chat"].prepare(chat(("system", told), ("user", "Good day")))
    assert asked.prompt == expected
    assert asked.max_new_tokens == t5.limits["context_length"]


def test_a_chat_ends_with_the_users_message(t5: Loaded) -> None:
    with pytest.raises(InvalidRequest, match="the assistant's") as caught:
        t5.tasks["chat"].prepare(chat(("user", "hi"), ("assistant", "ho")))
    assert caught.value.param == "messages[1].role"


def test_what_came_before_the_last_message_is_neither_read_nor_counted(t5: Loaded) -> None:
    long = chat(("user", "word " * 9000), ("assistant", "ho"), ("user", "Good day"))
    assert t5.tasks["chat"].prepare(long)[0].prompt == t5.tasks["chat"].prepare(chat(("user", "Good day")))[0].prompt
    with pytest.raises(ContextTooLong):
        t5.tasks["chat"].prepare(chat(("user", "word " * 9000)))


def test_a_chat_template_of_the_checkpoints_own_is_followed(shapes: Shapes, tmp_path: Path) -> None:
    folder = make_pair("t5", tmp_path)
    tokenizer = pair_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    (asked,) = load_pair(folder).tasks["chat"].prepare(chat(("user", "hi"), ("assistant", "ho"), max_tokens=3))
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert list(asked.prompt) == tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def test_special_tokens_come_from_ids_and_never_from_text(t5: Loaded) -> None:
    (said,) = t5.tasks["completion"].prepare(completion(prompt="</s> <pad>"))
    assert said.prompt.count(EOS) == 1
    assert said.prompt[-1] == EOS
    assert PAD not in said.prompt


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": [7] * (CONTEXT + 1)}, "prompt", r"96 tokens; got 97 in the prompt"),
        ({"max_tokens": CONTEXT + 1}, "max_tokens", r"96 tokens; got 97 to generate"),
        ({"prompt": [EMBEDDINGS]}, "prompt", "from 0 to 351; got 352"),
        ({"echo": True}, "echo", "a text of its own"),
        ({"echo": True, "max_tokens": 0}, "echo", "a text of its own"),
    ],
)
def test_what_it_cannot_do_is_refused(
    pairs: Callable[[str], Loaded], fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        pairs("bart").tasks["completion"].prepare(completion(**fields))
    assert caught.value.param == param


def test_source_and_target_may_each_be_as_long_as_the_context(pairs: Callable[[str], Loaded]) -> None:
    bart = pairs("bart")
    (said,) = bart.tasks["completion"].prepare(
        completion(prompt=[7] * CONTEXT, max_tokens=CONTEXT, ignore_eos=True, temperature=0.0)
    )
    (answer,) = bart.run([said])
    assert len(answer.tokens) == CONTEXT
    bound = EncoderDecoderModel(id="tiny", source="file://tiny", kind="encoder_decoder")
    body = completion(prompt=[7] * CONTEXT, max_tokens=CONTEXT)
    assert bound.cost_bound(body, bart.limits) == said.cost == 2 * CONTEXT


@pytest.mark.parametrize(
    "body",
    [
        completion(prompt=["Good day, 山の泉 🙂", "x" * 50], n=2, max_tokens=7),
        chat(("system", "translate: "), ("user", "Good day")),
        chat(("user", "Good day"), max_tokens=5, n=3),
    ],
)
@pytest.mark.parametrize("options", [{}, {"prefix": "to Greek: "}, {"purpose": "summarization"}])
def test_no_request_costs_more_than_its_bound(shapes: Shapes, body: Any, options: dict[str, Any]) -> None:
    loaded = load_pair(shapes("t5"), **options)
    config = EncoderDecoderModel(id="tiny", source="file://tiny", kind="encoder_decoder", **options)
    rows = loaded.tasks["chat" if isinstance(body, ChatRequest) else "completion"].prepare(body)
    for limits in (loaded.limits, {}):
        assert config.cost_bound(body, limits) >= sum(each.cost for each in rows)


def test_distances_alone_set_no_end_and_a_table_does(shapes: Shapes) -> None:
    assert load_pair(shapes("t5")).limits["context_length"] == 512
    assert load_pair(shapes("t5"), context_length=700).limits["context_length"] == 700
    assert load_pair(shapes("bart"), context_length=700).limits["context_length"] == CONTEXT
    tight = load_pair(shapes("bart"), cache_memory=64 * 9 * 32 * 4)
    with pytest.raises(ContextTooLong, match="cache_memory holds no more than 64 tokens of each"):
        tight.tasks["completion"].prepare(completion(max_tokens=65))


def test_a_model_that_counts_no_rows_is_refused(shapes: Shapes, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.families.transformer.encoder_decoder import loading
    from services.families.transformer.encoder_decoder.positions import RowPositions

    for name in ("t5", "bart"):
        monkeypatch.setattr(loading, "count_by_row", lambda decoder, name=name: (RowPositions(), name == "bart"))
        with pytest.raises(UnsupportedModel, match=r"changes its logits|does not run on the slot cache"):
            load_pair(shapes(name))
