"""SmolLM2 by vLLM, asked through the gateway: the same answers, ends and refusals as of a decoder of our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.integration.conftest import LocalFleet
from tests.vllm.conftest import CONTEXT, MODEL, ROWS

PATIENCE_S = 30.0
LONG_S = 300.0  # vLLM takes a minute to start, and longer on a busy machine
ASK = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(local_fleet: LocalFleet) -> Iterator[openai.OpenAI]:
    with local_fleet.openai() as client:
        yield client


def until(true: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.1)


def chat(client: openai.OpenAI, **options: Any) -> Any:
    given = {"model": MODEL, "messages": ASK, "max_tokens": 16, "temperature": 0, **options}
    return client.chat.completions.create(**given)


def streamed(client: openai.OpenAI, **options: Any) -> list[Any]:
    return list(chat(client, stream=True, **options))


def test_a_whole_chat_answers_counts_and_ends(client: openai.OpenAI) -> None:
    answer = chat(client)
    (choice,) = answer.choices
    assert "Paris" in choice.message.content
    assert (choice.finish_reason, answer.usage.completion_tokens <= 16) == ("stop", True)
    assert answer.usage.prompt_tokens > 20, "the template's tokens count"
    short = chat(client, max_tokens=2)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 2)


def test_a_streamed_chat_joins_to_the_whole_one(client: openai.OpenAI) -> None:
    whole = chat(client, max_tokens=40, messages=[{"role": "user", "content": "Count from one to ten."}])
    chunks = streamed(
        client,
        max_tokens=40,
        messages=[{"role": "user", "content": "Count from one to ten."}],
        stream_options={"include_usage": True},
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 2, "piece by piece"


def test_a_seed_draws_the_same_again_and_each_choice_draws_its_own(client: openai.OpenAI) -> None:
    drawn = [chat(client, temperature=1.0, seed=seed, n=2, max_tokens=24) for seed in (7, 7, 8)]
    texts = [[choice.message.content for choice in answer.choices] for answer in drawn]
    assert texts[0] == texts[1]
    assert len({*texts[0], *texts[2]}) == 4
    assert drawn[0].usage.completion_tokens > drawn[0].usage.prompt_tokens / 2, "of both choices"


def test_an_answer_ends_before_a_stop_string(client: openai.OpenAI) -> None:
    whole = chat(client).choices[0].message.content
    stopped = chat(client, stop=["Paris"]).choices[0]
    assert stopped.message.content == whole.partition("Paris")[0]
    assert stopped.finish_reason == "stop"


def test_log_probabilities_are_those_of_the_checkpoint(local_fleet: LocalFleet, folder: Path) -> None:
    prompt = [504, 3575, 282, 4649, 314, 7042, 30]
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 4, "echo": True, "logprobs": 3, "temperature": 0}
    with local_fleet.http() as http:  # the strict client takes no null, which the first token of a prompt has
        answers = [
            http.post("/v1/completions", json={**body, **changes}).raise_for_status().json()["choices"][0]["logprobs"]
            for changes in ({}, {"max_tokens": 0, "logprobs": 1})
        ]
    given, scored = (answer["token_logprobs"] for answer in answers)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        ids = model.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False)[0]
        plain = model(ids[None]).logits[0].log_softmax(-1)
    wanted = [plain[i, ids[i + 1]].item() for i in range(len(ids) - 1)]
    assert (given[0], scored[0]) == (None, None)
    assert given[1:] == pytest.approx(wanted, abs=2e-3)
    assert scored[1:] == pytest.approx(wanted[: len(prompt) - 1], abs=2e-3)
    assert all(0 < len(top) <= 3 for top in answers[0]["top_logprobs"][1:])


def test_a_chat_has_logprobs_of_its_tokens(client: openai.OpenAI) -> None:
    (choice,) = chat(client, logprobs=True, top_logprobs=2).choices
    entries = choice.logprobs.content
    assert "".join(entry.token for entry in entries) == choice.message.content
    assert all(entry.top_logprobs[0].token == entry.token for entry in entries), "greedy: the likeliest"


def test_answers_keep_to_a_form(client: openai.OpenAI) -> None:
    choices = ["Rome", "Paris", "Oslo"]
    (choice,) = chat(client, extra_body={"structured_outputs": {"choice": choices}}).choices
    assert (choice.message.content, choice.finish_reason) == ("Paris", "stop")
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    (choice,) = chat(
        client, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    ).choices
    assert choice.message.content.startswith('{"n":')
    assert choice.finish_reason == "stop"
    (choice,) = chat(client, extra_body={"structured_outputs": {"regex": "[A-D]{3}"}}).choices
    assert len(choice.message.content) == 3


def test_a_prompt_that_its_tenant_has_asked_before_is_not_read_again(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Say yes. " * 80}]
    first, second = (chat(client, messages=messages, max_tokens=1).usage for _ in range(2))
    assert first.prompt_tokens == second.prompt_tokens > 200
    assert second.prompt_tokens_details.cached_tokens >= 128


def test_more_rows_than_vllm_is_given_run_after_each_other(client: openai.OpenAI, local_fleet: LocalFleet) -> None:
    answer = chat(client, n=2 * ROWS + 1, temperature=1.0, seed=3, max_tokens=8)
    assert len(answer.choices) == 2 * ROWS + 1
    assert local_fleet.metric("castalia_batch_places", model=MODEL) == ROWS


def test_a_client_that_goes_frees_its_place(client: openai.OpenAI, local_fleet: LocalFleet) -> None:
    def aborted() -> float:
        return local_fleet.metric("castalia_finished_rows_total", model=MODEL, reason="abort")

    before = aborted()
    stream = chat(client, stream=True, max_tokens=400, extra_body={"ignore_eos": True})
    next(iter(stream))
    assert local_fleet.metric("castalia_running_rows", model=MODEL) == 1
    stream.close()
    until(lambda: local_fleet.metric("castalia_running_rows", model=MODEL) == 0)
    assert aborted() == before + 1


def test_a_deadline_ends_an_answer(local_fleet: LocalFleet) -> None:
    body = {"model": MODEL, "messages": ASK, "max_tokens": 400, "ignore_eos": True}
    with local_fleet.http() as client:
        late = client.post("/v1/chat/completions", json=body, headers={"x-castalia-deadline-ms": "900"})
    assert late.status_code in (503, 504), "predicted to be late, or late"
    until(lambda: local_fleet.metric("castalia_running_rows", model=MODEL) == 0)


def test_what_can_never_run_is_refused_as_by_a_decoder_of_our_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, messages=[{"role": "user", "content": "word " * CONTEXT}])
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")


def test_a_vllm_that_dies_is_replaced_with_its_replica_and_leaves_no_process(
    client: openai.OpenAI, local_fleet: LocalFleet
) -> None:
    (core,) = cores(local_fleet)
    core.kill()
    answers_again(client)
    (core,) = cores(local_fleet)
    replica = local_fleet.replica("chat")
    children = replica.children(recursive=True)
    replica.kill()
    answers_again(client)
    _, alive = psutil.wait_procs([core, *children], timeout=PATIENCE_S)
    assert alive == [], "a process of a replica that was killed holds its device for ever"


def cores(local_fleet: LocalFleet) -> list[psutil.Process]:
    """The processes in which vLLM's engine runs."""
    return local_fleet.processes("VLLM::EngineCore")


def answers_again(client: openai.OpenAI) -> None:
    def answered() -> bool:
        try:
            return bool(chat(client, max_tokens=1).choices)
        except (openai.APIStatusError, httpx.HTTPError, openai.APIConnectionError):
            return False

    time.sleep(1)
    until(answered, LONG_S)
