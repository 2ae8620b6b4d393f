"""Owns how well a causal LM tells documents longer than its context: in windows that overlap. Draws nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from services.families.transformer.stories.corpus import NOTHING

_ROWS = 16  # windows that are read at a time


@torch.no_grad()
def document_nats(model: GPT2LMHeadModel, documents: Sequence[Tensor], *, stride: int) -> list[float]:
    """-log p of each document after its first token.

    documents: int64 (T,) each, T at least 2. A window begins every `stride` tokens, and only those of its tokens count
    that the one before did not reach: so each is told from its document's beginning, or from at least
    context - stride tokens before it.
    """
    context = model.config.n_positions
    windows = [(i, *window) for i, document in enumerate(documents) for window in _windows(document, context, stride)]
    nats = [0.0] * len(documents)
    for first in range(0, len(windows), _ROWS):
        rows = windows[first : first + _ROWS]
        for (i, *_), value in zip(rows, _row_nats(model, rows), strict=True):
            nats[i] += value
    return nats


def bits_per_character(model: GPT2LMHeadModel, documents: Sequence[Tensor], texts: Sequence[str]) -> float:
    """Of texts that are `documents`, whose marks are told as well; windows overlap by a half."""
    nats = document_nats(model, documents, stride=model.config.n_positions // 2)
    return math.fsum(nats) / math.log(2) / sum(map(len, texts))


def _windows(document: Tensor, context: int, stride: int) -> Iterator[tuple[Tensor, int]]:
    """Up to context + 1 tokens each, and how many of those that it tells were told before."""
    told = 0
    for start in range(0, len(document), stride):
        window = document[start : start + context + 1]
        yield window, told - start
        told = start + len(window) - 1
        if told == len(document) - 1:
            return


def _row_nats(model: GPT2LMHeadModel, rows: Sequence[tuple[int, Tensor, int]]) -> list[float]:
    padded = torch.nn.utils.rnn.pad_sequence([row[1] for row in rows], batch_first=True, padding_value=NOTHING)
    padded = padded.to(model.device)
    logits = model(input_ids=padded[:, :-1].clamp(min=0), use_cache=False).logits.float()  # (B, T, V)
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), padded[:, 1:], ignore_index=NOTHING, reduction="none"
    )
    return [each[told:].double().sum().item() for each, (_, _, told) in zip(losses, rows, strict=True)]
