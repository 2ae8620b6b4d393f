"""The choice of tokens against transformers' own processors, and against the distribution itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from services.nn.text.params import SamplingOptions
from services.nn.text.sampling import Choice, Chosen, Seen, choose_tokens, token_logprob

V = 3000  # beyond the widths that truncation looks at first
CPU = torch.device("cpu")
NONE = Seen(None, None)


def some_logits(rows: int = 1, spread: float = 3.0, vocabulary: int = V) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(7)) * spread


def choice(uniform: float = 0.5, seen: Seen = NONE, banned: tuple[int, ...] = (), **options: Any) -> Choice:
    return Choice(SamplingOptions(**options), seen, uniform, banned)


def drawn(logits: torch.Tensor, points: int, **options: Any) -> Counter[int]:
    """Tokens for evenly spaced uniforms: their counts are the distribution, to within one."""
    choices = [choice((i + 0.5) / points, **options) for i in range(points)]
    return Counter(choose_tokens(logits.expand(points, -1), choices).tokens)


def expected(logits: torch.Tensor, *warpers: Any) -> torch.Tensor:
    scores = logits.clone()
    for warper in warpers:
        scores = warper(torch.zeros(1, 1, dtype=torch.long), scores)
    return scores.softmax(-1)[0]


def assert_distribution(counts: Counter[int], probabilities: torch.Tensor, points: int) -> None:
    support = set(probabilities.nonzero()[:, 0].tolist())
    assert counts.keys() <= support
    for token in support:
        assert counts[token] == pytest.approx(probabilities[token].item() * points, abs=1.6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_draws_follow_the_tempered_distribution(temperature: float) -> None:
    logits = some_logits()
    probabilities = expected(logits, TemperatureLogitsWarper(temperature))
    assert_distribution(drawn(logits, 400, temperature=temperature), probabilities, 400)


@pytest.mark.parametrize("spread", [0.2, 1.0, 4.0], ids=["flat", "middling", "peaked"])
@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 5},
        {"top_k": 500},
        {"top_k": 2000},
        {"top_k": 10**6},
        {"top_p": 0.3},
        {"top_p": 0.95},
        {"min_p": 0.2},
        {"top_k": 30, "top_p": 0.8},
        {"top_k": 1500, "top_p": 0.7, "min_p": 0.05},
        {"top_p": 0.9, "min_p": 0.001, "temperature": 0.7},
    ],
    ids=str,
)
def test_truncation_keeps_the_tokens_that_transformers_keeps(options: dict[str, Any], spread: float) -> None:
    logits = some_logits(spread=spread)
    warpers: list[Any] = []
    if "temperature" in options:
        warpers.append(TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        warpers.append(TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        warpers.append(TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        warpers.append(MinPLogitsWarper(options["min_p"]))
    assert_distribution(drawn(logits, 300, **options), expected(logits, *warpers), 300)


def test_repetition_penalty_is_that_of_transformers() -> None:
    logits, prompt = some_logits(), [5, 9, 9, 100]
    options = SamplingOptions(temperature=0, repetition_penalty=7.0)
    seen = Seen.of(options, prompt, V, CPU)
    best = int(logits.argmax())
    seen.add(best)
    scores = RepetitionPenaltyLogitsProcessor(7.0)(torch.tensor([[*prompt, best]]), logits)
    assert choose_tokens(logits, [Choice(options, seen, 0.5)]).tokens == [int(scores.argmax())]
    assert int(scores.argmax()) != best


def test_presence_and_frequency_penalties_are_openais_over_the_answer_alone() -> None:
    logits = torch.zeros(1, 6)
    logits[0] = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0, -1.0])
    options = SamplingOptions(temperature=0, presence_penalty=0.6, frequency_penalty=0.5)
    seen = Seen.of(options, [0, 0, 0, 0], 6, CPU)
    chosen: list[int] = []
    counts = [0] * 6
    for _ in range(12):
        scores = [logits[0, i].item() - 0.5 * counts[i] - 0.6 * (counts[i] > 0) for i in range(6)]
        (token,) = choose_tokens(logits, [Choice(options, seen, 0.5)]).tokens
        assert token == scores.index(max(scores))
        counts[token] += 1
        seen.add(token)
        chosen.append(token)
    assert chosen[0] == 0
    assert len(set(chosen)) > 2


def test_bias_moves_a_token_and_a_ban_excludes_it() -> None:
    logits = some_logits()
    best = int(logits.argmax())
    assert choose_tokens(logits, [choice(temperature=0, bias={17: 100.0})]).tokens == [17]
    assert choose_tokens(logits, [choice(temperature=0, bias={best: -100.0})]).tokens != [best]
    assert best not in drawn(torch.where(torch.arange(V) == best, 9.0, logits), 50, bias={best: -100.0})
    assert choose_tokens(logits, [choice(temperature=0, banned=(best,))]).tokens != [best]


def test_rows_do_not_change_each_other_nor_the_logits() -> None:
    logits = some_logits(6)
    before = logits.clone()
    options = SamplingOptions(temperature=1.1, presence_penalty=1.0)
    seen = Seen.of(options, [1], V, CPU)
    seen.add(int(logits[5].argmax()))
    choices = [
        choice(temperature=0),
        choice(0.3),
        choice(0.6, top_k=7),
        choice(0.9, top_p=0.99),
        choice(0.2, bias={3: 4.0}),
        Choice(options, seen, 0.4),
    ]
    together = choose_tokens(logits, choices).tokens
    alone = [choose_tokens(logits[i : i + 1], [each]).tokens[0] for i, each in enumerate(choices)]
    assert together == alone
    assert torch.equal(logits, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_named_and_the_others_chosen(bad: float) -> None:
    logits = some_logits(3)
    logits[1, 50] = bad
    choices = [choice(temperature=0), choice(0.4), choice(0.4, top_p=0.5)]
    chosen = choose_tokens(logits, choices)
    assert chosen.finite == [True, False, True]
    assert chosen.tokens[2] == choose_tokens(logits[2:], choices[2:]).tokens[0]


def test_logits_of_minus_infinity_everywhere_are_not_finite() -> None:
    assert choose_tokens(torch.full((1, 5), -torch.inf), [choice()]) == Chosen([0], [False])


def test_a_rule_that_overflows_or_leaves_no_token_fails_its_row_alone() -> None:
    logits = some_logits(4)
    options = SamplingOptions(repetition_penalty=1e-39)
    overflows = Choice(options, Seen.of(options, [int(logits[1].argmax())], V, CPU), 0.5)
    choices = [choice(), overflows, choice(temperature=0), choice(banned=tuple(range(V)))]
    chosen = choose_tokens(logits, choices)
    assert chosen.finite == [True, False, True, False]
    assert chosen.tokens[2] == int(logits[2].argmax())


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.5}], ids=str)
def test_no_temperature_gives_a_token_outside_the_vocabulary(options: dict[str, Any]) -> None:
    (token,) = choose_tokens(some_logits(), [choice(temperature=1e-50, **options)]).tokens
    assert 0 <= token < V


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 1e-30}], ids=str)
def test_the_ends_of_the_draw_give_tokens_of_positive_probability(uniform: float, options: dict[str, Any]) -> None:
    logits = some_logits()
    logits[0, :10] = logits[0, -10:] = -torch.inf
    (token,) = choose_tokens(logits, [choice(uniform, **options)]).tokens
    assert 10 <= token < V - 10


def test_a_tiny_temperature_is_greedy() -> None:
    logits = some_logits()
    assert choose_tokens(logits, [choice(0.999, temperature=1e-30)]).tokens == [int(logits.argmax())]


def test_logprobs_are_those_of_the_unmodified_distribution() -> None:
    logits = some_logits()[0]
    raw = token_logprob(logits, 12, 4)
    reference = logits.log_softmax(-1)
    assert raw.logprob == pytest.approx(reference[12].item())
    assert [token for token, _ in raw.top] == reference.topk(4).indices.tolist()
    assert raw.top[0][1] == pytest.approx(reference.max().item())
