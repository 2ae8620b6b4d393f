"""A shared system prompt over the whole way: the second chat finds it, and says so."""

from __future__ import annotations

from typing import Any

import openai

from tests.integration.conftest import LocalFleet

SYSTEM = {"role": "system", "content": "The spring on Parnassus gives water to whoever climbs up to it. " * 8}


def ask(client: openai.OpenAI, question: str, **options: Any) -> openai.types.CompletionUsage:
    messages: Any = [SYSTEM, {"role": "user", "content": question}]
    answer = client.chat.completions.create(model="llama", messages=messages, max_tokens=4, **options)
    usage = answer.usage
    assert usage is not None
    return usage


def cached(usage: openai.types.CompletionUsage) -> int:
    assert usage.prompt_tokens_details is not None
    return usage.prompt_tokens_details.cached_tokens or 0


def test_the_second_chat_with_a_system_prompt_does_not_read_it_again(local_fleet: LocalFleet) -> None:
    with local_fleet.openai() as client:
        first = ask(client, "Who drank?")
        before = local_fleet.metric("castalia_units_total", model="llama")
        second = ask(client, "Who sang?")
    assert cached(first) == 0
    assert cached(second) >= 64
    spent = local_fleet.metric("castalia_units_total", model="llama") - before
    assert 0 < spent <= second.prompt_tokens - cached(second) + 4
