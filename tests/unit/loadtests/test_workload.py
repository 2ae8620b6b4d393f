"""What the benchmarks ask for must be the same in every run, and described by the right mean."""

from __future__ import annotations

from itertools import islice

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from loadtests.workload import Mix, jobs


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    letters = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=letters, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def test_jobs_repeat_with_their_seed_and_stay_within_the_mix(tokenizer: PreTrainedTokenizerFast) -> None:
    mix = Mix(prompt=(8, 32), output=(4, 16))
    first = list(islice(jobs(tokenizer, mix, seed=1), 50))
    assert first == list(islice(jobs(tokenizer, mix, seed=1), 50))
    assert first != list(islice(jobs(tokenizer, mix, seed=2), 50))
    assert {job.prompt_tokens for job in first} <= set(range(8, 33))
    assert {job.output_tokens for job in first} <= set(range(4, 17))
    assert all(len(job.prompt) == job.prompt_tokens for job in first)  # this tokenizer's tokens are letters


@pytest.mark.parametrize("mix", [Mix((8, 128), (16, 256)), Mix((1, 1), (1, 1)), Mix((10, 20), (5, 5))])
def test_mean_context_is_the_mean_over_all_decoded_tokens(mix: Mix) -> None:
    contexts = [
        prompt + made
        for prompt in range(mix.prompt[0], mix.prompt[1] + 1)
        for output in range(mix.output[0], mix.output[1] + 1)
        for made in range(output)
    ]
    assert abs(mix.mean_context - sum(contexts) / len(contexts)) <= 1


def test_prompts_longer_than_the_text_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="longer than the text"):
        next(jobs(tokenizer, Mix((8, 10**6), (4, 16)), seed=0))
