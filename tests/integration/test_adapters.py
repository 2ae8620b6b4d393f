"""An adapter by a running fleet: a model of its own that answers as peft does, and leaves its base alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openai.types.chat.chat_completion import Choice
from transformers import AutoTokenizer

from services.nn.text.tokenizer import Vocabulary
from tests.adapters import peft_answers
from tests.integration.conftest import LocalFleet

QUESTION: Any = [{"role": "user", "content": "Who sings on Parnassus, and to whom?"}]
BASE, BOT = "llama", "llama-bot"
NEW = 12


def ask(local_fleet: LocalFleet, model: str) -> Choice:
    with local_fleet.openai() as client:
        answer = client.chat.completions.create(
            model=model,
            messages=QUESTION,
            temperature=0,
            max_tokens=NEW,
            logprobs=True,
            extra_body={"ignore_eos": True},
        )
    assert answer.model == model
    return answer.choices[0]


def spoken(choice: Choice) -> list[list[int]]:
    """The answer's tokens, each in bytes."""
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    return [token.bytes or [] for token in choice.logprobs.content]


def test_an_adapter_is_listed_as_a_model_with_its_base(local_fleet: LocalFleet) -> None:
    with local_fleet.http() as client:
        cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
    assert (cards[BASE]["base"], cards[BOT]["base"]) == (None, BASE)
    assert (cards[BOT]["state"], cards[BOT]["tasks"]) == ("ready", cards[BASE]["tasks"])
    assert cards[BOT]["limits"] == cards[BASE]["limits"] != {}
    base, bot = (local_fleet.metric("castalia_model_memory_bytes", model=model) for model in (BASE, BOT))
    assert 0 < bot < base / 100, "the base is in memory once"


def test_both_answer_a_chat_as_peft_does_and_unlike_each_other(local_fleet: LocalFleet) -> None:
    folder = local_fleet.checkpoints / "llama"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    (expected,) = peft_answers(folder, local_fleet.checkpoints / "bot", [prompt], NEW)
    vocabulary = Vocabulary(tokenizer)
    base, bot = ask(local_fleet, BASE), ask(local_fleet, BOT)
    assert spoken(bot) == [list(vocabulary.token_bytes(token)) for token in expected]
    assert spoken(base) != spoken(bot)


def test_asked_at_once_each_answers_as_alone_and_is_counted_by_its_id(local_fleet: LocalFleet) -> None:
    alone = {model: ask(local_fleet, model) for model in (BASE, BOT)}
    counted = local_fleet.metric("castalia_finished_rows_total", model=BOT)
    models = [BASE, BOT] * 6
    with ThreadPoolExecutor(len(models)) as threads:
        together = list(threads.map(lambda model: ask(local_fleet, model), models))
    assert [spoken(choice) for choice in together] == [spoken(alone[model]) for model in models]
    assert local_fleet.metric("castalia_finished_rows_total", model=BOT) >= counted + 6
