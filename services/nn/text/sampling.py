"""Owns the choice of tokens from logits: penalties, truncation, one draw a row. Never sees the cache or a request.

Every rule works on a row's own logits and the row's own uniform draw, so that batch-mates change nothing; rows
without a rule pay nothing for it. Log-probabilities are those of the model: log-softmax of the unmodified logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from services.nn.text.params import RawLogprob, SamplingOptions

_WIDTHS = (64, 1024)  # likeliest tokens that truncation looks at, before it sorts the whole vocabulary


@dataclass(slots=True)
class Seen:
    """What the penalties look at; a table is None where no rule needs it. The sampler updates it when it commits."""

    prompted: Tensor | None  # (V,) bool: the token occurs in the prompt or the answer
    counts: Tensor | None  # (V,) float32: how often the token occurs in the answer

    @classmethod
    def of(cls, options: SamplingOptions, prompt: Sequence[int], vocabulary: int, device: torch.device) -> Seen:
        prompted = counts = None
        if options.repetition_penalty != 1:
            prompted = torch.zeros(vocabulary, dtype=torch.bool, device=device)
            prompted[torch.tensor(prompt, device=device)] = True
        if options.counts_generated:
            counts = torch.zeros(vocabulary, device=device)
        return cls(prompted, counts)

    @property
    def is_empty(self) -> bool:
        return self.prompted is None and self.counts is None

    def add(self, token: int) -> None:
        if self.prompted is not None:
            self.prompted[token] = True
        if self.counts is not None:
            self.counts[token] += 1


class Choice(NamedTuple):
    """What the choice of one row's token depends on. `banned`: ids that must not come yet (end of text).

    `allowed`: a bit for each id that may come, lowest first; None: all may.
    """

    options: SamplingOptions
    seen: Seen
    uniform: float  # this token's draw from the row's generator, in [0, 1)
    banned: Sequence[int] = ()
    allowed: bytes | None = None

    @property
    def modifies(self) -> bool:
        o, ruled = self.options, bool(self.banned) or self.allowed is not None
        return bool(ruled or o.bias or o.repetition_penalty != 1 or o.counts_generated)


class Chosen(NamedTuple):
    tokens: list[int]
    finite: list[bool]  # False: the logits, or what the rules made of them, hold nan or +inf, or only -inf: no token


def choose_tokens(logits: Tensor, choices: Sequence[Choice]) -> Chosen:
    """One token a row. logits (B, V) float32, any device; unchanged."""
    peaks = logits.amax(-1)
    sound = peaks.isfinite()
    modified = [i for i, choice in enumerate(choices) if choice.modifies]
    if modified:
        logits = logits.clone()
        for i in modified:
            _modify(logits[i], choices[i])
        peaks = logits.amax(-1)
        sound &= peaks.isfinite()  # a rule can overflow, or ban all that was left
    finite: list[bool] = sound.tolist()
    tokens = [0] * len(choices)
    for temperature_zero, choose in ((True, _greedy), (False, _draw)):
        rows = [i for i, c in enumerate(choices) if finite[i] and (c.options.temperature == 0) == temperature_zero]
        if rows:
            taken = [logits, peaks] if len(rows) == len(choices) else [logits[rows], peaks[rows]]
            for i, token in zip(rows, choose(taken[0], taken[1], [choices[i] for i in rows]), strict=True):
                tokens[i] = token
    return Chosen(tokens, finite)


def _greedy(logits: Tensor, peaks: Tensor, choices: Sequence[Choice]) -> list[int]:
    return logits.argmax(-1).tolist()


def _modify(row: Tensor, choice: Choice) -> None:
    """Penalise, bias, ban, and leave what is allowed, in place. row (V,).

    Repetition: CTRL (Keskar 2019, arXiv:1909.05858), over prompt and answer. Presence and frequency: OpenAI's
    logit -= presence * [count > 0] + frequency * count, over the answer.
    """
    options, seen = choice.options, choice.seen
    if seen.prompted is not None:
        penalty = options.repetition_penalty
        row.copy_(torch.where(seen.prompted, torch.where(row > 0, row / penalty, row * penalty), row))
    if seen.counts is not None:
        row -= options.frequency_penalty * seen.counts + options.presence_penalty * (seen.counts > 0)
    if options.bias:
        ids = torch.tensor(list(options.bias), device=row.device)
        row[ids] += torch.tensor(list(options.bias.values()), device=row.device)
    if choice.banned:
        row[torch.tensor(choice.banned, device=row.device)] = -torch.inf
    if choice.allowed is not None:
        row.masked_fill_(~unpacked(choice.allowed, row.shape[0], row.device), -torch.inf)


def unpacked(bits: bytes, width: int, device: torch.device) -> Tensor:
    """A bit for each id, lowest first -> (width,) bool."""
    packed = torch.frombuffer(bytearray(bits), dtype=torch.uint8).to(device)
    places = torch.arange(8, dtype=torch.uint8, device=device)
    return (packed[:, None] >> places & 1).bool().flatten()[:width]


def _draw(logits: Tensor, peaks: Tensor, choices: Sequence[Choice]) -> list[int]:
    """Draw by inverse distribution function. logits (R, V), peaks (R,)."""
    heat = logits.new_tensor([choice.options.temperature for choice in choices])
    # Relative to the peak's, so that no temperature overflows; in place, for a new (R, V) costs more than the work.
    weights = (logits - peaks[:, None]).div_(heat[:, None]).exp_()
    free = [i for i, choice in enumerate(choices) if not choice.options.truncates]
    if len(free) == len(choices):
        return _inverse(weights, [choice.uniform for choice in choices]).tolist()
    tokens = [0] * len(choices)
    bound = [i for i, choice in enumerate(choices) if choice.options.truncates]
    for i, token in zip(bound, _draw_truncated(weights[bound], [choices[i] for i in bound], _WIDTHS), strict=True):
        tokens[i] = token
    if free:
        picks = _inverse(weights[free], [choices[i].uniform for i in free])
        for i, token in zip(free, picks.tolist(), strict=True):
            tokens[i] = token
    return tokens


def _draw_truncated(weights: Tensor, choices: Sequence[Choice], widths: Sequence[int]) -> list[int]:
    """Top-k, then top-p (Holtzman 2019, arXiv:1904.09751) of what is left, then min-p (arXiv:2407.01082).

    weights (R, V) are relative to the likeliest token's. Looks at the `widths[0]` likeliest tokens; rows whose rules
    could reach further are looked at again with the next width, at last with all.
    """
    vocabulary = weights.shape[-1]
    width = min(widths[0], vocabulary) if widths else vocabulary
    inner, ids = weights.topk(width, dim=-1)  # (R, W), likeliest first
    k = weights.new_tensor([min(c.options.top_k or vocabulary, vocabulary) for c in choices])[:, None]
    p = weights.new_tensor([c.options.top_p for c in choices])[:, None]
    min_p = weights.new_tensor([c.options.min_p for c in choices])[:, None]

    ranks = torch.arange(width, device=weights.device)
    inside = ranks < k
    total = (inner * inside).sum(-1, keepdim=True)
    if any((c.options.top_k or vocabulary) > width for c in choices):
        total = torch.where(k <= width, total, weights.sum(-1, keepdim=True))
    mass = (inner * inside / total).cumsum(-1)
    before = mass - inner / total  # of likelier tokens
    kept = inside & ((ranks == 0) | ((before < p) & (inner >= min_p)))
    tokens: list[int] = ids.gather(-1, _inverse(inner * kept, [c.uniform for c in choices])[:, None])[:, 0].tolist()
    if width == vocabulary:
        return tokens
    # Without top-k the total above is the whole vocabulary's; with a k beyond the width it is not yet known.
    open_end = (k == vocabulary) & (mass[:, -1:] < p) & (inner[:, -1:] >= min_p)
    far: list[int] = (((k > width) & (k < vocabulary)) | open_end)[:, 0].nonzero()[:, 0].tolist()
    if far:
        further = _draw_truncated(weights[far], [choices[i] for i in far], widths[1:])
        for i, token in zip(far, further, strict=True):
            tokens[i] = token
    return tokens


def _inverse(weights: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Index of the first cumulative weight over uniform * total; weights (R, N) >= 0, overwritten -> (R,) int64.

    A float32 uniform below 1 times the total rounds to less than the total, so that index has a weight over 0. It is
    in [0, N) whatever the weights are: an id outside the vocabulary would break the step of every other row.
    """
    cumulative = weights.cumsum_(-1)
    goal = cumulative[:, -1] * weights.new_tensor(uniforms)
    return torch.searchsorted(cumulative, goal[:, None], right=True)[:, 0].clamp_(max=weights.shape[-1] - 1)


def token_logprob(logits: Tensor, token: int, alternatives: int) -> RawLogprob:
    """Log-softmax of one row's unmodified logits (V,) at `token`, and the likeliest `alternatives`."""
    logprobs = logits.float().log_softmax(-1)
    values, ids = logprobs.topk(alternatives)
    return RawLogprob(token, logprobs[token].item(), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
