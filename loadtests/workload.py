"""Owns what the benchmarks ask for: seeded jobs of unlike prompt and answer lengths."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loadtests.prompts import QUESTIONS


@dataclass(frozen=True, slots=True)
class Mix:
    """Uniform ranges, both ends included, in tokens."""

    prompt: tuple[int, int]
    output: tuple[int, int]

    @property
    def mean_context(self) -> int:
        """The mean number of tokens that a decoding row attends to, over all tokens that the mix makes."""
        low, high = self.output
        mean_square = (high * (high + 1) * (2 * high + 1) - (low - 1) * low * (2 * low - 1)) / 6 / (high - low + 1)
        half_answer = mean_square / ((low + high) / 2) / 2  # long answers hold most of the tokens
        return round(sum(self.prompt) / 2 + half_answer)


@dataclass(frozen=True, slots=True)
class Job:
    prompt: str
    prompt_tokens: int
    output_tokens: int


def jobs(tokenizer: Any, mix: Mix, seed: int) -> Iterator[Job]:
    """An endless, repeatable sequence. `tokenizer` is a transformers tokenizer; prompts are text in its own tokens."""
    rng = random.Random(seed)
    encode = tokenizer.backend_tokenizer.encode  # the text is longer than any context: nothing to warn of
    ids: list[int] = encode(" ".join(QUESTIONS), add_special_tokens=False).ids
    if len(ids) <= mix.prompt[1]:
        raise ValueError(f"prompts of {mix.prompt[1]} tokens are longer than the text that they are cut from")
    while True:
        length = rng.randint(*mix.prompt)
        start = rng.randrange(len(ids) - length)
        prompt: str = tokenizer.decode(ids[start : start + length])
        # Cutting at a token and joining again may change a count by one: what is sent is what counts.
        prompt_tokens = len(encode(prompt).ids)
        yield Job(prompt, prompt_tokens, rng.randint(*mix.output))
