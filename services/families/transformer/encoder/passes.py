"""Owns the one pass that an encoder's rows take: texts of like length run together, so that little is padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.families.transformer.encoder.loading import Encoder
from services.families.transformer.encoder.params import Embedded, EmbedParams, Filled, FillParams
from services.families.transformer.encoder.pooling import How, cut, pool
from services.nn.rng import row_generator
from services.nn.text.params import ReadyParams
from services.nn.text.sampling import Choice, Seen, choose_tokens, token_logprob
from shared.events import TextDelta, TokenIds


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Indices by length, within a factor of 2: what is padded together is less than twice as long as what is not."""
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault((length - 1).bit_length(), []).append(i)
    return [groups[key] for key in sorted(groups)]


@dataclass(frozen=True, slots=True, eq=False)
class EmbedPass:
    """A text's vector is its tokens' pooled."""

    encoder: Encoder
    how: How
    normalize: bool

    def __call__(self, rows: Sequence[EmbedParams]) -> list[Embedded | None]:
        found: list[Embedded | None] = [None] * len(rows)
        for group in alike([len(row.ids) for row in rows]):
            output, valid = self.encoder.run([rows[i].ids for i in group])
            vectors = pool(output.last_hidden_state, valid, self.how).cpu()
            for i, vector in zip(group, vectors, strict=True):
                short = cut(vector, rows[i].dimensions, normalize=self.normalize)
                found[i] = Embedded(rows[i], short) if bool(short.isfinite().all()) else None
        return found


@dataclass(frozen=True, slots=True, eq=False)
class FillPass:
    """A token for each mask, all of a row chosen from one pass, as BERT was trained. Rows of one text share it."""

    encoder: Encoder

    def __call__(self, rows: Sequence[FillParams]) -> list[Filled | None]:
        texts = list(dict.fromkeys(row.ids for row in rows))
        logits: dict[tuple[int, ...], Tensor] = {}
        for group in alike([len(text) for text in texts]):
            output, _ = self.encoder.run([texts[i] for i in group])
            logits.update((texts[i], each) for i, each in zip(group, output.logits, strict=True))
        return [_fill(row, logits[row.ids][list(row.places)].float()) for row in rows]


def _fill(row: FillParams, logits: Tensor) -> Filled | None:
    """logits (M, V) of the row's masks. None if they are not finite."""
    rng = row_generator(row.seed)
    seen = Seen.of(row.sampling, row.ids, logits.shape[-1], logits.device)
    uniforms: list[float] = torch.rand(len(logits), generator=rng).tolist()
    chosen = choose_tokens(logits, [Choice(row.sampling, seen, uniform) for uniform in uniforms])
    if not all(chosen.finite):
        return None
    raws = None
    if row.logprobs is not None:
        pairs = zip(logits, chosen.tokens, strict=True)
        raws = tuple(token_logprob(each, token, row.logprobs) for each, token in pairs)
    return Filled(row, tuple(chosen.tokens), raws)


def ready(rows: Sequence[ReadyParams]) -> list[TextDelta | TokenIds]:
    """Rows whose answer is known."""
    return [row.answer for row in rows]
