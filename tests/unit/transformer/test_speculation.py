"""Tokens guessed ahead: fewer steps, and the answers that there are without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from services.engine.contract import FinishReason
from services.engine.counts import Counts
from services.families.transformer.speculation import LARGEST_BALANCE, Speculation, balance_of
from services.nn.text.lookup import Lookup
from services.nn.text.params import GenerateParams, SamplingOptions
from tests.checkpoints import ARCHITECTURES
from tests.unit.transformer.driver import GREEDY, Answer, Loaded, load_folder, random_prompts

REPEATED = [5, 6, 7, 8, 9] * 6


def guessing(folder: Path, answers: Sequence[Answer] = (), **options: Any) -> Loaded:
    """A model that checks guesses wherever there are any, however long its forwards take here.

    Given `answers`, its rows guess those of them that begin as theirs, but for one token in four.
    """
    loaded = load_folder(folder, **options)
    loaded.sampler._limits = replace(loaded.sampler._limits, speculation=Speculation(6, 1e6))
    if answers:
        start = loaded.sampler.start

        def started(params: GenerateParams) -> Any:
            state = start(params)
            if state.lookup is not None:
                state.lookup = Told(params.prompt, [answer.tokens for answer in answers])
            return state

        loaded.sampler.start = started
    return loaded


class Told(Lookup):
    """Knows the answers, and is wrong at times."""

    def __init__(self, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> None:
        super().__init__(prompt)
        self._begin, self._answers = len(prompt), answers

    def guess(self, most: int) -> tuple[int, ...]:
        said = self.tokens[self._begin :]
        known = next((each for each in self._answers if each[: len(said)] == said and len(each) > len(said)), ())
        following = [*known[len(said) :], *[9] * most][:most]
        return tuple(token if (len(said) + i) % 4 else 7 for i, token in enumerate(following))


class Stepped:
    """How many tokens the steps of a run gave to its rows."""

    def __init__(self, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widths: list[int] = []
        step = loaded.sampler.step

        def counted(states: Any) -> Any:
            before = [state.generated for state in states]
            outputs = step(states)
            self.widths += [state.generated - made for state, made in zip(states, before, strict=True)]
            return outputs

        monkeypatch.setattr(loaded.sampler, "step", counted)


def both(folder: Path, rows: Callable[[Loaded], list[GenerateParams]]) -> list[tuple[Answer, Answer]]:
    """Each row's answer without guesses and with."""
    plain = load_folder(folder, guess_tokens=0)
    answers = plain.run(rows(plain))
    guessed = guessing(folder, answers)
    return list(zip(answers, guessed.run(rows(guessed)), strict=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_those_without_guesses(folders: Callable[..., Path], architecture: str) -> None:
    prompts = [REPEATED, *random_prompts(5, longest=60, seed=3), REPEATED[:7]]

    def rows(loaded: Loaded) -> list[GenerateParams]:
        samplings = [GREEDY, SamplingOptions(temperature=0.4), SamplingOptions(temperature=1.2, top_k=3)]
        return [
            loaded.row(prompt, 40, sampling=samplings[i % 3], seed=i, logprobs=2 if i % 2 else None, ignore_eos=i < 4)
            for i, prompt in enumerate(prompts)
        ]

    for plain, guessed in both(folders(architecture), rows):
        assert guessed.tokens == plain.tokens
        assert (guessed.text, guessed.units, guessed.finish) == (plain.text, plain.units, plain.finish)
        assert len(guessed.logprobs) == len(plain.logprobs)
        for got, expected in zip(guessed.logprobs, plain.logprobs, strict=True):
            assert (got.token_id, got.offset) == (expected.token_id, expected.offset)
            assert got.logprob == pytest.approx(expected.logprob, abs=1e-4)


def test_right_guesses_save_steps(folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_folder(folders("llama"), guess_tokens=0)
    answers = plain.run([plain.row(REPEATED, 120, sampling=GREEDY, ignore_eos=True)])
    loaded = guessing(folders("llama"), answers)
    stepped = Stepped(loaded, monkeypatch)
    (answer,) = loaded.run([loaded.row(REPEATED, 120, sampling=GREEDY, ignore_eos=True)])
    assert answer.tokens == answers[0].tokens
    assert max(stepped.widths) == 4, "every fourth guess is wrong"
    assert sum(stepped.widths) == 120
    assert len(stepped.widths) < 40


def test_a_text_that_repeats_is_guessed(folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = guessing(folders("llama"))
    stepped = Stepped(loaded, monkeypatch)
    forced = SamplingOptions(temperature=0, bias={17: 100.0})
    (answer,) = loaded.run([loaded.row(REPEATED, 50, sampling=forced, ignore_eos=True)])
    assert answer.tokens == [17] * 50
    assert max(stepped.widths) == 7, "one token and six guesses"


def test_guesses_that_were_checked_and_those_that_were_right_are_counted(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_folder(folders("llama"), guess_tokens=0)
    counts = Counts()
    answers = plain.run([plain.row(REPEATED, 60, sampling=GREEDY, ignore_eos=True, counts=counts)])
    assert counts.snapshot() == {}
    loaded = guessing(folders("llama"), answers)
    stepped = Stepped(loaded, monkeypatch)
    loaded.run([loaded.row(REPEATED, 60, sampling=GREEDY, ignore_eos=True, counts=counts)])
    counted = counts.snapshot()
    assert counted["accepted_tokens"] == sum(width - 1 for width in stepped.widths if width)
    assert counted["accepted_tokens"] < counted["guessed_tokens"] <= 6 * len(stepped.widths)


def test_stops_lengths_and_echoes_cut_within_what_was_guessed(folders: Callable[..., Path]) -> None:
    folder = folders("llama")
    whole = load_folder(folder, guess_tokens=0)
    (answer,) = whole.run([whole.row([4], 60, sampling=GREEDY, ignore_eos=True)])
    stop = answer.text[30:33]

    def rows(loaded: Loaded) -> list[GenerateParams]:
        return [
            loaded.row([4], 60, sampling=GREEDY, ignore_eos=True, **options)
            for options in ({"stops": (stop,)}, {"stops": (stop,), "min_tokens": 45}, {"whole": True}, {"echo": "x"})
        ] + [loaded.row([4], new, sampling=GREEDY, ignore_eos=True) for new in range(20, 30)]

    for plain, guessed in both(folder, rows):
        assert (guessed.text, guessed.tokens, guessed.finish) == (plain.text, plain.tokens, plain.finish)
        assert guessed.units == plain.units
    assert stop not in both(folder, rows)[0][1].text


def test_rows_whose_choice_depends_on_their_answer_guess_nothing(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = guessing(folders("llama"))
    stepped = Stepped(loaded, monkeypatch)
    for options in ({"frequency_penalty": 0.1}, {"presence_penalty": 0.1}, {"repetition_penalty": 1.1}):
        sampling = SamplingOptions(temperature=0, **options)
        loaded.run([loaded.row(REPEATED, 30, sampling=sampling, ignore_eos=True)])
    assert max(stepped.widths) == 1


def test_a_wrong_guess_that_spoils_the_values_costs_the_row_nothing(
    folders: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = guessing(folders("llama", tie_word_embeddings=False))
    prompt = [11, 12, 13, 14]
    rows = [loaded.row(p, 20, sampling=GREEDY, ignore_eos=True) for p in (prompt, REPEATED)]
    monkeypatch.setattr(Lookup, "guess", lambda lookup, most: ())
    expected = loaded.run(rows)
    used = {*prompt, *REPEATED, *expected[0].tokens, *expected[1].tokens}
    spoilt = next(token for token in range(20, 400) if token not in used)
    with torch.no_grad():
        loaded.sampler.forward._model.get_input_embeddings().weight[spoilt] = torch.nan
    monkeypatch.setattr(Lookup, "guess", lambda lookup, most: (spoilt,) * most)
    for answer, plain in zip(loaded.run(rows), expected, strict=True):
        assert (answer.tokens, answer.finish) == (plain.tokens, FinishReason.LENGTH)


def test_counts_weigh_what_a_guess_may_save_against_what_it_costs() -> None:
    free, dear = Speculation(6, 1000.0), Speculation(6, 4.0)
    assert free.counts([0.9], [6]) == [6]
    assert free.counts([0.9, 0.9], [6, 2]) == [6, 2], "no more than a row has guessed"
    assert free.counts([], []) == []
    assert free.counts([0.0, 0.0], [6, 6]) == [0, 0]
    assert dear.counts([0.1], [6]) == [0]
    assert dear.counts([0.9], [6])[0] > max(dear.counts([0.9] * 8, [6] * 8))
    assert dear.counts([0.9, *[0.0] * 7], [6] * 8) == [3, *[0] * 7], "each row feeds as many as pay"
    assert dear.counts([0.9], [6], beside=100) == [0], "the weights are read for the prompts anyway"


@pytest.mark.parametrize("hopes", [[0.9], [0.5, 0.8], [0.99, 0.3, 0.7]])
def test_no_other_counts_make_more_tokens_in_a_time(hopes: list[float]) -> None:
    speculation = Speculation(4, 6.0)

    def rate(counts: Sequence[int]) -> float:
        made = sum(hope**place for hope, count in zip(hopes, counts, strict=True) for place in range(count + 1))
        return made / (speculation.balance + len(hopes) + sum(counts))

    best = speculation.counts(hopes, [4] * len(hopes))
    assert rate(best) == pytest.approx(max(rate(counts) for counts in product(range(5), repeat=len(hopes))))


def test_the_balance_comes_from_times_and_is_coarse() -> None:
    assert balance_of({1: 20.0, 16: 50.0}) == balance_of({1: 22.0, 16: 49.0}) == 8
    assert balance_of({1: 1.0, 16: 16.0}) == 1
    assert balance_of({1: 1.0, 16: 0.9}) == balance_of({}) == LARGEST_BALANCE
