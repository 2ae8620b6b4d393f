"""What gateway and replicas share: configuration rules and the small logic of schemas and events."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from shared.config.models import FleetConfig
from shared.events import TextDelta
from shared.schemas.text import ChatMessage, ChatRequest, CompletionRequest
from tests.unit.gateway.fakes import logprob

SERVICE: dict[str, Any] = {
    "name": "chat",
    "family": "transformer",
    "models": [{"id": "tiny", "source": "builtin://tiny"}],
}


def fleet(**changes: Any) -> dict[str, Any]:
    return {"services": [copy.deepcopy(SERVICE) | changes]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (fleet(colour="red"), "colour"),
        (fleet(name="gateway"), "reserved"),
        (fleet(replicas={"min": 3, "max": 2}), r"replicas.min \(3\) is over replicas.max \(2\)"),
        (fleet(models=[]), "at least 1 item"),
        (fleet(family="oracle"), "transformer"),
        ({"services": [SERVICE, {**SERVICE, "name": "other"}]}, "model id used more than once: tiny"),
        ({"services": [SERVICE, SERVICE]}, "service name used more than once: chat"),
        ({"services": []}, "at least 1 item"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FleetConfig.model_validate(config)


def test_pieces_of_text_join_with_the_later_counts() -> None:
    joined = TextDelta("a", 3, 1, (logprob("a"),), 2).join(TextDelta("b", 3, 2, (logprob("b"),), 2))
    assert (joined.text, joined.prompt_tokens, joined.completion_tokens, joined.cached_tokens) == ("ab", 3, 2, 2)
    assert [entry.token for entry in joined.logprobs or ()] == ["a", "b"]
    assert TextDelta("a", 3, 1).join(TextDelta("b", 3, 2)).logprobs is None


def test_parts_of_a_message_follow_each_other() -> None:
    part = {"type": "text", "text": "x"}
    assert ChatMessage.model_validate({"role": "user", "content": [part, part]}).text == "xx"
    assert ChatMessage.model_validate({"role": "user", "content": "y"}).text == "y"


@pytest.mark.parametrize(("stop", "stops"), [(None, ()), ("a", ("a",)), (["a", "b"], ("a", "b")), ([], ())])
def test_stop_is_one_text_or_several(stop: Any, stops: tuple[str, ...]) -> None:
    assert CompletionRequest(model="m", prompt="x", stop=stop).stops == stops


def test_the_newer_name_of_the_token_limit_wins() -> None:
    messages = [ChatMessage(role="user", content="x")]
    assert ChatRequest(model="m", messages=messages).max_new_tokens is None
    assert ChatRequest(model="m", messages=messages, max_tokens=3).max_new_tokens == 3
    assert ChatRequest(model="m", messages=messages, max_tokens=3, max_completion_tokens=5).max_new_tokens == 5


@pytest.mark.parametrize(
    ("prompt", "prompts"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]])]
)
def test_a_prompt_is_text_or_tokens_one_or_several(prompt: Any, prompts: Any) -> None:
    assert CompletionRequest(model="m", prompt=prompt).prompts == prompts
