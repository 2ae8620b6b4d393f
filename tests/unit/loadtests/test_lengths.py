"""How long prompts and answers are."""

from __future__ import annotations

from random import Random
from statistics import mean, median

import pytest

from loadtests.prompts import QUESTIONS, WORDS_A_TOKEN, text_of
from loadtests.traffic.lengths import LENGTHS, Draw, LogNormal


def draws(name: str, *, context: int | None = None, max_answer: int | None = None) -> list[Draw]:
    rng = Random(0)
    return [LENGTHS[name].draw(rng, context=context, max_answer=max_answer) for _ in range(3000)]


@pytest.mark.parametrize(("name", "prompt", "answer"), [("short", 19, 58), ("chat", 161, 338)])
def test_the_named_mixes_have_the_means_that_they_say(name: str, prompt: int, answer: int) -> None:
    found = draws(name)
    assert mean(draw.prompt for draw in found) == pytest.approx(prompt, rel=0.12)
    assert mean(draw.answer for draw in found) == pytest.approx(answer, rel=0.12)


def test_long_prompts_have_short_answers() -> None:
    found = draws("long-prompts")
    assert median(draw.prompt for draw in found) == pytest.approx(1500, rel=0.1)
    assert median(draw.answer for draw in found) == pytest.approx(13, rel=0.15)


def test_a_bound_cuts_the_draws_and_does_not_gather_them_at_itself() -> None:
    answers = [draw.answer for draw in draws("chat", max_answer=100)]
    assert max(answers) <= 100
    assert answers.count(100) < len(answers) / 20


@pytest.mark.parametrize("context", [64, 256, 4096])
def test_prompt_and_answer_fit_into_the_context_together(context: int) -> None:
    assert all(draw.prompt + draw.answer < context for draw in draws("long-prompts", context=context))


def test_a_bound_below_all_that_is_likely_gives_the_bound() -> None:
    assert LogNormal(1e6, 0.1, 1, 10**7).draw(Random(0), most=5) == 5


def test_texts_have_the_words_of_their_tokens_and_no_common_beginning() -> None:
    rng = Random(0)
    texts = [text_of(200, rng) for _ in range(20)]
    assert {len(text.split()) for text in texts} == {round(200 * WORDS_A_TOKEN)}
    assert len({" ".join(text.split()[:4]) for text in texts}) == 20
    assert all(text.endswith(tuple(" ".join(each.split()) for each in QUESTIONS)) for text in texts)
    assert text_of(1, rng).split()
