"""What clients may ask, and what they get: bounds, fan-out, seeds, stops, log-probabilities, echo."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from services.engine.contract import FinishReason
from services.nn.text.params import GenerateParams
from shared.errors import ContextTooLong, InvalidRequest, UnsupportedTask
from shared.events import TextDelta
from shared.schemas.text import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from tests.unit.transformer.driver import Loaded, load_folder

TEXT = "What is the capital of France? 山の泉 <|im_end|>"


def completion(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "tiny", "prompt": "The spring", "temperature": 0.0, **fields})


def chat(content: str = "hello", **fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "tiny", "messages": [{"role": "user", "content": content}], **fields})


def prepared(loaded: Loaded, request: CompletionRequest | ChatRequest) -> list[GenerateParams]:
    return loaded.tasks["chat" if isinstance(request, ChatRequest) else "completion"].prepare(request)


def test_choices_fan_out_prompt_by_prompt_with_seeds_of_their_own(llama: Loaded) -> None:
    rows = prepared(llama, completion(prompt=["a b", "c"], n=3, seed=5))
    assert [row.prompt == rows[0].prompt for row in rows] == [True] * 3 + [False] * 3
    assert len({row.seed for row in rows}) == 6
    assert rows == prepared(llama, completion(prompt=["a b", "c"], n=3, seed=5))
    assert rows[0].seed != prepared(llama, completion(seed=6))[0].seed
    assert rows[0].cost == len(rows[0].prompt) + 16


def test_without_a_seed_every_request_draws_afresh(llama: Loaded) -> None:
    assert prepared(llama, completion())[0].seed != prepared(llama, completion())[0].seed


def test_the_default_temperature_is_one_and_zero_is_greedy(llama: Loaded) -> None:
    assert prepared(llama, chat())[0].sampling.temperature == 1.0
    assert prepared(llama, chat(temperature=0.0))[0].sampling.temperature == 0.0


def test_what_a_request_leaves_out_is_as_the_model_is_configured(folders: Callable[..., Path]) -> None:
    tuned = load_folder(folders("llama"), sampling={"temperature": 0.2, "top_k": 7, "top_p": 0.9, "min_p": 0.1})
    left_out = prepared(tuned, chat())[0].sampling
    assert (left_out.temperature, left_out.top_k, left_out.top_p, left_out.min_p) == (0.2, 7, 0.9, 0.1)
    said = prepared(tuned, chat(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0))[0].sampling
    assert (said.temperature, said.top_k, said.top_p, said.min_p) == (1.5, 0, 1.0, 0.0)


@pytest.mark.parametrize(("asked", "used"), [(1e-50, 0.0), (9e-6, 0.0), (1e-5, 1e-5)])
def test_a_temperature_that_float32_cannot_divide_by_is_greedy(llama: Loaded, asked: float, used: float) -> None:
    assert prepared(llama, chat(temperature=asked))[0].sampling.temperature == used


def test_chat_generates_to_the_end_of_the_context_by_default(llama: Loaded) -> None:
    (row,) = prepared(llama, chat())
    assert len(row.prompt) + row.max_new_tokens == llama.limits["context_length"] == 256


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (completion(max_tokens=255), "prompt"),
        (completion(prompt=[5] * 256, max_tokens=1), "prompt"),
        (chat(max_tokens=255), "messages"),
        (chat("word " * 400), "messages"),
        (chat("word " * 400, max_completion_tokens=1), "messages"),
    ],
)
def test_more_than_the_context_is_refused_with_both_numbers(llama: Loaded, request_: Any, param: str) -> None:
    with pytest.raises(ContextTooLong, match=r"256 tokens; got \d+") as caught:
        prepared(llama, request_)
    assert caught.value.param == param
    assert caught.value.code == "context_length_exceeded"


def test_what_the_cache_memory_can_never_hold_is_refused_and_says_so(folders: Callable[..., Path]) -> None:
    # 3 layers of 2 heads of 16 floats, keys and values: 768 bytes a token, and 128 for the copy of a piece.
    loaded = load_folder(folders("llama"), cache_memory=130 * (768 + 128))
    assert loaded.limits["context_length"] == 128
    with pytest.raises(ContextTooLong, match="cache_memory holds no more than 128 tokens"):
        prepared(loaded, completion(max_tokens=128))
    (row,) = prepared(loaded, completion(prompt=[5] * 8, max_tokens=120))
    assert loaded.sampler.fits(row, [])
    state = loaded.sampler.start(row)
    assert not loaded.sampler.fits(row, [state])
    loaded.sampler.release(state)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [3, 512]}, "prompt"),
        ({"prompt": [[3], [900]]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"logit_bias": {"512": 1.0}}, "logit_bias"),
        ({"min_tokens": 17}, "min_tokens"),
    ],
)
def test_values_that_no_model_could_take_name_their_field(llama: Loaded, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepared(llama, completion(**fields))
    assert caught.value.param == param


def test_special_tokens_come_from_ids_and_never_from_text(llama: Loaded) -> None:
    assert 2 not in prepared(llama, completion(prompt=TEXT))[0].prompt
    assert prepared(llama, completion(prompt=[5, 2]))[0].prompt == (5, 2)


def test_tokenize_gives_what_completion_and_chat_would_read_and_detokenize_the_text_back(llama: Loaded) -> None:
    tokenize, detokenize = llama.tasks["tokenize"], llama.tasks["detokenize"]
    (row,) = tokenize.prepare(TokenizeRequest(model="tiny", prompt=TEXT))
    ids = list(row.answer.ids)
    assert tuple(ids) == prepared(llama, completion(prompt=TEXT, max_tokens=1))[0].prompt
    (back,) = detokenize.prepare(DetokenizeRequest(model="tiny", tokens=ids))
    assert back.answer.text == TEXT
    request = chat("hi")
    (row,) = tokenize.prepare(TokenizeRequest(model="tiny", messages=request.messages))
    assert row.answer.ids == prepared(llama, request)[0].prompt
    (special,) = detokenize.prepare(DetokenizeRequest(model="tiny", tokens=[1, 2]))
    assert special.answer == TextDelta("<|im_start|><|im_end|>", 2, 0)


def test_a_ready_answer_takes_one_step_and_no_memory(llama: Loaded) -> None:
    (row,) = llama.tasks["tokenize"].prepare(TokenizeRequest(model="tiny", prompt="ab"))
    state = llama.sampler.start(row)
    (output,) = llama.sampler.step([state])
    assert output.chunk == row.answer
    assert output.finish_reason is FinishReason.STOP
    assert llama.sampler.batch_key(row) != llama.sampler.batch_key(prepared(llama, completion())[0])
    assert len(llama.sampler.table) == 0
    llama.sampler.release(state)


def test_detokenize_checks_the_tokenizers_own_bound(llama: Loaded) -> None:
    with pytest.raises(InvalidRequest, match="got 500") as caught:
        llama.tasks["detokenize"].prepare(DetokenizeRequest(model="tiny", tokens=[3, 500]))
    assert caught.value.param == "tokens"


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        (TokenizeRequest(model="tiny", prompt="q7" * 3000), "prompt", r"4096 tokens.* 256 tokens; got \d{4}\."),
        (TokenizeRequest(model="tiny", messages=chat("q7" * 3000).messages), "messages", r"4096 tokens.*got \d{4}\."),
        (TokenizeRequest(model="tiny", prompt="q" * 4_000_000), "prompt", r"\d+ characters.*; got 4000000\."),
        (TokenizeRequest(model="tiny", messages=chat("q" * 4_000_000).messages), "messages", "got 4000000"),
        (DetokenizeRequest(model="tiny", tokens=[5] * 4097), "tokens", "4096 tokens.*; got 4097"),
    ],
)
def test_what_needs_no_model_is_bounded_all_the_same(llama: Loaded, request_: Any, param: str, words: str) -> None:
    task = llama.tasks["tokenize" if isinstance(request_, TokenizeRequest) else "detokenize"]
    with pytest.raises(InvalidRequest, match=words) as caught:
        task.prepare(request_)
    assert caught.value.param == param


def test_sixteen_contexts_are_tokenized_and_detokenized(llama: Loaded) -> None:
    (row,) = llama.tasks["detokenize"].prepare(DetokenizeRequest(model="tiny", tokens=[5] * 4096))
    assert row.answer.prompt_tokens == 4096
    (row,) = llama.tasks["tokenize"].prepare(TokenizeRequest(model="tiny", prompt=row.answer.text))
    assert len(row.answer.ids) <= 4096


def test_a_model_without_a_template_does_everything_but_chat(folders: Callable[..., Path]) -> None:
    loaded = load_folder(folders("gpt2", chat=False))
    assert set(loaded.tasks) == {"completion", "tokenize", "detokenize"}
    with pytest.raises(UnsupportedTask, match="'tiny' does not do 'chat'"):
        loaded.tasks["tokenize"].prepare(TokenizeRequest(model="tiny", messages=chat().messages))


def run(loaded: Loaded, **fields: Any) -> Any:
    (answer,) = loaded.run(prepared(loaded, completion(**fields)))
    return answer


def test_a_stop_string_ends_the_row_and_never_shows(llama: Loaded) -> None:
    whole = run(llama, max_tokens=60, ignore_eos=True).text
    for at in range(0, 24, 5):
        stop = whole[at + 3 : at + 9]
        answer = run(llama, max_tokens=60, ignore_eos=True, stop=[stop, "never seen"])
        assert answer.text == whole[: whole.index(stop)]
        assert answer.finish is FinishReason.STOP
        assert all(whole.startswith("".join(answer.pieces[:i])) for i in range(len(answer.pieces)))


def test_an_end_token_stops_counts_and_is_no_text(llama: Loaded) -> None:
    answer = run(llama, max_tokens=50, logit_bias={"2": 100.0}, min_tokens=4)
    assert len(answer.tokens) == 5
    assert answer.tokens[-1] == 2
    assert answer.finish is FinishReason.STOP
    assert answer.deltas[-1].completion_tokens == 5
    forever = run(llama, max_tokens=7, logit_bias={"2": 100.0}, ignore_eos=True)
    assert forever.tokens == [2] * 7
    assert forever.text == ""
    assert forever.finish is FinishReason.LENGTH


def test_stop_strings_wait_for_min_tokens(llama: Loaded) -> None:
    whole = run(llama, max_tokens=20, ignore_eos=True)
    stop = whole.text[0]
    assert run(llama, max_tokens=20, ignore_eos=True, stop=stop).text == ""
    assert len(run(llama, max_tokens=20, ignore_eos=True, stop=stop, min_tokens=10).tokens) >= 10


def test_counts_run_and_pieces_join_with_a_delta_for_the_end(llama: Loaded) -> None:
    answer = run(llama, max_tokens=12, ignore_eos=True)
    counts = [delta.completion_tokens for delta in answer.deltas]
    assert counts == sorted(counts)
    assert counts[-1] == 12
    assert {delta.prompt_tokens for delta in answer.deltas} == {
        len(prepared(llama, completion())[0].prompt),
    }


def test_logprobs_are_those_of_a_plain_forward(llama: Loaded, reference: Callable[[Path], PreTrainedModel]) -> None:
    prompt = [10, 11, 12, 300, 14] * 5
    answer = run(llama, prompt=prompt, max_tokens=6, logprobs=3, echo=True, ignore_eos=True, temperature=1.0, seed=3)
    ids = prompt + answer.tokens
    with torch.no_grad():
        plain = reference(llama.folder)(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert [entry.token_id for entry in answer.logprobs] == ids
    first, *rest = answer.logprobs
    assert isnan(first.logprob)
    assert first.top == ()
    for at, entry in enumerate(rest):
        assert entry.logprob == pytest.approx(plain[at, entry.token_id].item(), abs=1e-3)
        assert [top.token_id for top in entry.top] == plain[at].topk(3).indices.tolist()
        assert bytes(entry.bytes).decode(errors="replace") == entry.token


def test_echo_begins_the_answer_with_the_prompt(llama: Loaded) -> None:
    plain = run(llama, prompt=TEXT, max_tokens=5)
    echoed = run(llama, prompt=TEXT, max_tokens=5, echo=True, stop="capital")
    assert echoed.text == TEXT + plain.text


def test_each_logprob_says_where_its_token_stands_in_the_text(llama: Loaded) -> None:
    # A special token has no text, and each half of a character stands where the whole does.
    tokenizer = llama.tasks["completion"].generation.vocabulary
    by_byte = {tokenizer.token_bytes(i): i for i in range(tokenizer.size)}
    cut = [by_byte[bytes([byte])] for byte in "é🙂".encode()]
    prompt = [1, *cut, 1, *tokenizer.encode("ab")]
    answer = run(llama, prompt=prompt, max_tokens=30, logprobs=0, echo=True, ignore_eos=True, temperature=1.5, seed=2)
    offsets = [entry.offset for entry in answer.logprobs]
    assert offsets[:9] == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    ids = [entry.token_id for entry in answer.logprobs]
    assert ids == prompt + answer.tokens
    ends = [*offsets[1:], len(answer.text)]
    for i, (start, end) in enumerate(zip(offsets, ends, strict=True)):
        whole = tokenizer.token_bytes(ids[i]).decode(errors="replace")
        if ids[i] in tokenizer.special_ids:
            assert start == end
        elif "\ufffd" not in whole and "\ufffd" not in answer.text[start:end]:
            assert answer.text[start:end] == whole


def test_an_end_token_has_a_logprob_behind_an_echo_as_who_scores_prompts_counts_on(llama: Loaded) -> None:
    # lm-evaluation-harness asks for one token more than it scores, and cuts off the last entry.
    (end,) = llama.sampler._text.eos
    asked = {"prompt": [10, 11, 12], "max_tokens": 1, "logprobs": 1, "logit_bias": {str(end): 100.0}}
    echoed = run(llama, echo=True, **asked)
    assert [entry.token_id for entry in echoed.logprobs] == [10, 11, 12, end]
    assert echoed.finish is FinishReason.STOP
    assert [entry.offset for entry in echoed.logprobs][-1] == len(echoed.text)
    assert run(llama, **asked).logprobs == [], "alone it is no text, and has no entry"


def test_logprobs_of_a_stop_string_do_not_show_it(llama: Loaded) -> None:
    whole = run(llama, max_tokens=40, ignore_eos=True)
    stop = whole.text[10:18]
    answer = run(llama, max_tokens=40, ignore_eos=True, stop=stop, logprobs=0)
    shown = b"".join(bytes(entry.bytes) for entry in answer.logprobs)
    assert answer.text.encode().startswith(shown) or whole.text.startswith(shown.decode(errors="replace"))
    assert stop.encode() not in shown
    for i in range(len(answer.deltas)):
        out = "".join(answer.pieces[: i + 1])
        known = b"".join(bytes(e.bytes) for d in answer.deltas[: i + 1] for e in d.logprobs or ())
        assert len(known.decode(errors="ignore")) <= len(out)


def test_a_penalised_row_equals_generate(llama: Loaded, reference: Callable[[Path], PreTrainedModel]) -> None:
    prompt = [10, 11, 12, 10, 11]
    answer = run(llama, prompt=prompt, max_tokens=25, repetition_penalty=1.7, ignore_eos=True)
    model: Any = reference(llama.folder)
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=25,
        do_sample=False,
        repetition_penalty=1.7,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert answer.tokens == out[0, 5:].tolist()
