"""Owns the attention kernel choice under unchanged transformers models: what runs at one query on the CPU.

torch's fused CPU attention is made for many queries. At one query it reads the cache at a fraction of the memory's
speed; batched products in the half precisions, and products and an embedding bag in float32, read it up to twice as
fast.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SLOT_ATTENTION = "castalia_slots"
_MODIFIERS = ("softcap", "s_aux", "position_bias")


def slot_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """softmax(q k^T * scaling + mask) v, grouped queries included (Ainslie 2023, arXiv:2305.13245).

    query (B, H, T, D), key (B, G, L, D), value (B, G, L, E) with H a multiple of G; mask additive (B, 1, T, L).
    Returns (B, T, H, E). Raises NotImplementedError for score modifiers that only some kernels know.
    """
    if any(kwargs.get(name) is not None for name in _MODIFIERS):
        raise NotImplementedError(f"attention with {', '.join(n for n in _MODIFIERS if kwargs.get(n) is not None)}")
    additive = attention_mask is not None and attention_mask.is_floating_point()
    if query.shape[2] != 1 or query.device.type != "cpu" or not additive:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    return _one_query(query, key, value, cast(Tensor, attention_mask), scaling), None


def _one_query(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """query (B, H, 1, D), mask (B, 1, 1, L) -> (B, 1, H, E)."""
    b, h, _, d = query.shape
    _, g, length, e = value.shape
    r = h // g  # the queries of a group are rows of one product
    scale = d**-0.5 if scaling is None else scaling
    grouped = query.reshape(b * g, r, d)
    bias = mask.expand(b, g, r, length).reshape(b * g, r, length)
    # Slots are outermost and heads next, so a view of the first B slots flattens to (B*G, L, D) without a copy.
    keys = key.flatten(0, 1)
    if query.dtype is torch.float32 and value.stride()[2:] == (e, 1):
        # Keys on the left: BLAS then reads them by rows, twice as fast as in the transposed product.
        scores = torch.baddbmm(bias.transpose(1, 2), keys, grouped.transpose(1, 2), alpha=scale).transpose(1, 2)
        return _weighted_values(scores.softmax(-1).view(b, g, r, length), value, mask)
    scores = torch.baddbmm(bias, grouped, keys.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1), value.flatten(0, 1)).view(b, 1, h, e)


def _weighted_values(weights: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """weights (B, G, R, L) v: an embedding bag with the cells of the whole pool as its table. -> (B, 1, G*R, E).

    A bag reads memory twice as fast as a batched product of one row. What the mask hides has weight 0, so the row's
    first cell stands for it: a short row does not read as far as the longest. value (B, G, L, E), cells contiguous.
    """
    b, g, r, length = weights.shape
    e = value.shape[-1]
    slot, head = value.stride(0) // e, value.stride(1) // e  # how far apart they are, in cells
    table = value.as_strided(((b - 1) * slot + (g - 1) * head + length, e), (e, 1))
    small = torch.int32 if len(table) < 2**31 else torch.int64  # half the index to read
    firsts = torch.arange(b, dtype=small)[:, None] * slot + torch.arange(g, dtype=small) * head  # (B, G)
    cells = torch.arange(length, dtype=small) * (mask[:, 0] == 0)  # (B, 1, L)
    index = (firsts[:, :, None] + cells)[:, :, None].expand(b, g, r, length)
    attended = nn.functional.embedding_bag(
        index.reshape(-1, length), table, mode="sum", per_sample_weights=weights.reshape(-1, length)
    )
    return attended.view(b, 1, g * r, e)


def register_slot_attention() -> None:
    """Make the kernel known to transformers under SLOT_ATTENTION. Idempotent."""
    AttentionInterface.register(SLOT_ATTENTION, slot_attention)
    AttentionMaskInterface.register(SLOT_ATTENTION, sdpa_mask)
