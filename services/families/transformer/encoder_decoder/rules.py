"""Owns what a checkpoint's own generation config asks of its targets: forced and banned tokens, no n-gram twice.

The rules are transformers' own, so that a target is what `generate` gives. They look at a row's own tokens alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    ForcedBOSTokenLogitsProcessor,
    GenerationConfig,
    LogitsProcessor,
    MinLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)


class Rules:
    """One checkpoint's rules. `last` is the token that a target ends with where it may grow no further, if any."""

    def __init__(self, config: GenerationConfig, eos: Sequence[int], device: torch.device) -> None:
        given: Any = config
        self._eos, self._device = list(eos), device
        self._source_ngram = cast("int | None", given.encoder_no_repeat_ngram_size)
        forced = given.forced_eos_token_id
        self.last = cast("int | None", forced[0] if isinstance(forced, list) else forced)
        self._before = self._ngrams(given)
        self._after = self._tokens(given)

    def _ngrams(self, given: Any) -> list[LogitsProcessor]:
        size = given.no_repeat_ngram_size
        return [NoRepeatNGramLogitsProcessor(size)] if size else []

    def _tokens(self, given: Any) -> list[LogitsProcessor]:
        """In the order of `generate`."""
        rules: list[LogitsProcessor] = []
        if given.bad_words_ids is not None:
            rules.append(NoBadWordsLogitsProcessor(given.bad_words_ids, self._eos))
        if given.min_length and self._eos:
            rules.append(MinLengthLogitsProcessor(given.min_length, self._eos, device=str(self._device)))
        if given.forced_bos_token_id is not None:
            rules.append(ForcedBOSTokenLogitsProcessor(given.forced_bos_token_id))
        if given.suppress_tokens is not None:
            rules.append(SuppressTokensLogitsProcessor(given.suppress_tokens, device=str(self._device)))
        if given.begin_suppress_tokens is not None:
            begin = 1 if given.forced_bos_token_id is None else 2
            rules.append(
                SuppressTokensAtBeginLogitsProcessor(given.begin_suppress_tokens, begin, device=str(self._device))
            )
        return rules

    def of_source(self, source: Sequence[int]) -> tuple[LogitsProcessor, ...]:
        """Those of a row that reads this source."""
        about_source: list[LogitsProcessor] = []
        if self._source_ngram:
            ids = torch.tensor([list(source)], device=self._device)
            about_source.append(EncoderNoRepeatNGramLogitsProcessor(self._source_ngram, cast(torch.LongTensor, ids)))
        return (*self._before, *about_source, *self._after)


def apply_rules(rules: Sequence[LogitsProcessor], target: Sequence[int], logits: Tensor) -> Tensor:
    """A row's logits (V,) under its rules, as a new tensor; `target` begins with the start token."""
    ids = torch.tensor([list(target)], device=logits.device)
    scores = logits[None].clone()
    for rule in rules:
        scores = rule(cast(torch.LongTensor, ids), cast(torch.FloatTensor, scores))
    return scores[0]
