"""Owns the attention kernel choice under unchanged transformers models: what runs at one query on the CPU.

torch's fused CPU attention is made for many queries. At one query it keeps up with batched matrix products in
float32, but not in the half precisions, where it is slower by a factor of two and more.
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
    b, h, _, d = query.shape
    _, g, length, e = value.shape
    scale = d**-0.5 if scaling is None else scaling
    grouped = query.reshape(b, g, h // g, d)  # the queries of a group are rows of one product
    if query.dtype is torch.float32:
        attended = nn.functional.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scale)
        return attended.reshape(b, 1, h, e)
    # Slots are outermost and heads next, so a view of the first B slots flattens to (B*G, L, D) without a copy.
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    bias = mask.expand(b, g, h // g, length).reshape(b * g, h // g, length)
    scores = torch.baddbmm(bias, grouped.flatten(0, 1), keys.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1), values).view(b, 1, h, e)


def register_slot_attention() -> None:
    """Make the kernel known to transformers under SLOT_ATTENTION. Idempotent."""
    AttentionInterface.register(SLOT_ATTENTION, slot_attention)
    AttentionMaskInterface.register(SLOT_ATTENTION, sdpa_mask)
