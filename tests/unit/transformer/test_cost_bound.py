"""What the gateway takes a request to cost at most is never less than what its rows cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.config.transformer import TransformerModel
from shared.errors import InvalidRequest
from shared.schemas.text import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from tests.tool_templates import TEMPLATES
from tests.unit.transformer.driver import Loaded, load_folder

CONFIG = TransformerModel(id="tiny", source="file://tiny")
TEXTS = st.text(max_size=60)
TOKENS = st.lists(st.integers(3, 200), min_size=1, max_size=40)
WANTED = st.one_of(st.none(), st.integers(1, 300))
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXTS}),
    min_size=1,
    max_size=5,
)


def check(loaded: Loaded, task: str, body: Any) -> None:
    try:
        rows = loaded.tasks[task].prepare(body)
    except InvalidRequest:  # it costs nothing
        return
    for limits in (loaded.limits, {}):
        bound = CONFIG.cost_bound(body, limits)
        assert math.isfinite(bound)
        assert bound >= sum(row.cost for row in rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(messages=MESSAGES, wanted=WANTED, n=st.integers(1, 4))
def test_a_chat_costs_no_more_than_its_bound(llama: Loaded, messages: Any, wanted: int | None, n: int) -> None:
    body = ChatRequest.model_validate({"model": "tiny", "messages": messages, "max_tokens": wanted, "n": n})
    check(llama, "chat", body)


@pytest.mark.parametrize("template", TEMPLATES)
def test_tools_calls_and_results_cost_no_more_than_their_bound(folders: Callable[..., Path], template: str) -> None:
    loaded = load_folder(
        folders("llama", context=16_384, template=TEMPLATES[template]), context_length=16_384, cache_memory=2**30
    )
    parameters = {"type": "object", "properties": {"ü": {"enum": [["<>", 1, {}]] * 5}}}
    functions = [{"name": f"f{i}", "description": "é" * i, "parameters": parameters} for i in range(6)]
    function = {"name": "f0", "arguments": json.dumps({"a": [[0] * 40, {"b": {}}]}, separators=(",", ":"))}
    call = {"id": "c", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "ü"},
    ]
    tools = [{"type": "function", "function": each} for each in functions]
    for choice in ("auto", "required"):
        for wanted in (messages, messages[:1]):
            body = ChatRequest.model_validate(
                {"model": "tiny", "messages": wanted, "tools": tools, "tool_choice": choice, "max_tokens": 20}
            )
            cost = sum(row.cost for row in loaded.tasks["chat"].prepare(body))
            assert cost <= CONFIG.cost_bound(body, loaded.limits) < 16_384


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    prompt=st.one_of(TEXTS, TOKENS, st.lists(TEXTS, min_size=1, max_size=4), st.lists(TOKENS, min_size=1, max_size=4)),
    wanted=st.integers(1, 300),
    n=st.integers(1, 4),
)
def test_a_completion_costs_no_more_than_its_bound(llama: Loaded, prompt: Any, wanted: int, n: int) -> None:
    body = CompletionRequest.model_validate({"model": "tiny", "prompt": prompt, "max_tokens": wanted, "n": n})
    check(llama, "completion", body)


def test_a_bound_is_never_over_the_context_of_each_row(llama: Loaded) -> None:
    body = CompletionRequest(model="tiny", prompt=["x" * 10_000, "y"], max_tokens=10_000, n=2)
    assert CONFIG.cost_bound(body, llama.limits) == 4 * llama.limits["context_length"]


def test_a_short_answer_is_not_taken_for_a_whole_context(llama: Loaded) -> None:
    body = CompletionRequest(model="tiny", prompt="hello", max_tokens=10)
    assert CONFIG.cost_bound(body, llama.limits) <= 20


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ("tokenize", TokenizeRequest(model="tiny", prompt="x" * 1000)),
        ("detokenize", DetokenizeRequest(model="tiny", tokens=[5] * 1000)),
    ],
)
def test_what_never_meets_the_model_costs_one(llama: Loaded, task: str, body: Any) -> None:
    check(llama, task, body)
    assert CONFIG.cost_bound(body, llama.limits) == 1
