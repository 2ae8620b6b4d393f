"""Owns attention under unchanged transformers models: which rows it takes together, and what runs at few queries on the
CPU.

torch's fused CPU attention is made for many queries. At one query it reads the cache at a fraction of the memory's
speed; batched products in the half precisions, and products and an embedding bag in float32, read it up to twice as
fast. At a few, as where guesses are checked, batched products do not copy the cache for each query of a group.

A flat forward has all tokens of unlike rows in one sequence, so that everything but attention meets no padding; what
attention needs to know of its rows goes with the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SLOT_ATTENTION = "castalia_slots"
_FEW = 8
_MODIFIERS = ("softcap", "s_aux", "position_bias")


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows of a flat forward that attention takes together: R rows of T queries, out of the forward's N tokens.

    `rows`: their slots. `tokens`: which of the N tokens each of the R * T queries is, row by row. `valid` (R * T) bool:
    False for padding, which may be any token; None if there is none. `mask`: additive (R, 1, T, L).
    """

    rows: slice | Tensor
    tokens: slice | Tensor
    valid: Tensor | None
    mask: Tensor


def flat_mask(groups: Sequence[RowGroup]) -> Tensor:
    """The mask (1, 1, 1, 1) of a flat forward, which says by itself nothing but what its groups are.

    Their valid tokens, one group behind the other, are the forward's. Keys and values are then those of all slots.
    """
    mask = groups[0].mask.new_zeros(1, 1, 1, 1)
    cast(Any, mask).__dict__["castalia_groups"] = tuple(groups)
    return mask


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
    In a flat forward (`flat_mask`): query (1, H, N, D), key and value of all slots.
    Returns (B, T, H, E). Raises NotImplementedError for score modifiers that only some kernels know.
    """
    groups: Sequence[RowGroup] | None = getattr(attention_mask, "castalia_groups", None)
    if groups is not None:
        options = {**kwargs, "dropout": dropout, "scaling": scaling}
        return torch.cat([_of_group(module, query, key, value, each, options) for each in groups])[None], None
    if any(kwargs.get(name) is not None for name in _MODIFIERS):
        raise NotImplementedError(f"attention with {', '.join(n for n in _MODIFIERS if kwargs.get(n) is not None)}")
    additive = attention_mask is not None and attention_mask.is_floating_point()
    if query.shape[2] > _FEW or query.device.type != "cpu" or not additive:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    few = _one_query if query.shape[2] == 1 else _few_queries
    return few(query, key, value, cast(Tensor, attention_mask), scaling), None


def _of_group(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, group: RowGroup, options: dict[str, Any]
) -> Tensor:
    """query (1, H, N, D), key and value of all slots -> (valid tokens of the group, H, E)."""
    r, _, t, length = group.mask.shape
    mine = query[0][:, group.tokens].unflatten(1, (r, t)).transpose(0, 1)  # (R, H, T, D)
    keys, values = key[group.rows, :, :length], value[group.rows, :, :length]
    attended = slot_attention(module, mine, keys, values, group.mask, **options)[0].flatten(0, 1)
    return attended if group.valid is None else attended[group.valid]


def _few_queries(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """query (B, H, T, D), mask (B, 1, T, L) -> (B, T, H, E)."""
    b, h, t, d = query.shape
    _, g, length, e = value.shape
    r = h // g
    scale = d**-0.5 if scaling is None else scaling
    bias = mask[:, :, None].expand(b, g, r, t, length).reshape(b * g, r * t, length)
    scores = torch.baddbmm(bias, query.reshape(b * g, r * t, d), key.flatten(0, 1).transpose(1, 2), alpha=scale)
    attended = torch.bmm(scores.softmax(-1), value.flatten(0, 1))
    return attended.view(b, h, t, e).transpose(1, 2)


def _one_query(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """query (B, H, 1, D), mask (B, 1, 1, L) -> (B, 1, H, E)."""
    b, h, _, d = query.shape
    _, g, length, e = value.shape
    r = h // g  # the queries of a group are rows of one product
    scale = d**-0.5 if scaling is None else scaling
    grouped = query.reshape(b * g, r, d)
    # Slots are outermost and heads next, so a view of the first B slots flattens to (B*G, L, D) without a copy.
    keys = key.flatten(0, 1)
    if query.dtype is torch.float32 and value.stride()[2:] == (e, 1):
        bag = _bag_of(mask, value, r)
        # Keys on the left: BLAS then reads them by rows, twice as fast as in the transposed product.
        scores = torch.baddbmm(bag.bias, keys, grouped.transpose(1, 2), alpha=scale).transpose(1, 2)
        attended = nn.functional.embedding_bag(
            bag.index,
            value.as_strided((bag.cells, e), (e, 1)),
            mode="sum",
            per_sample_weights=scores.softmax(-1).reshape(-1, length),
        )
        return attended.view(b, 1, h, e)
    scores = torch.baddbmm(_bias(mask, b, g, r), grouped, keys.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1), value.flatten(0, 1)).view(b, 1, h, e)


@dataclass(frozen=True, slots=True)
class _Bag:
    """How a step weighs values: an embedding bag with the first `cells` cells of the whole pool as its table.

    A bag reads memory twice as fast as a batched product of one row. `index` (B*H, L) says where each weight's value
    is, `bias` (B*G, L, R) is the mask.
    """

    index: Tensor
    bias: Tensor
    cells: int


def _bag_of(mask: Tensor, value: Tensor, r: int) -> _Bag:
    """The bag for value (B, G, L, E), cells contiguous, and R queries a group.

    Every layer of a step is given the same mask, and most have values of one shape: the bag is made by the first and
    kept on the mask, which goes when the step ends.
    """
    bags: dict[tuple[int, ...], _Bag] = cast(Any, mask).__dict__.setdefault("castalia_bags", {})
    key = (r, *value.shape, *value.stride()[:2])
    if key not in bags:
        bags[key] = _make_bag(mask, value, r)
    return bags[key]


def _make_bag(mask: Tensor, value: Tensor, r: int) -> _Bag:
    """What the mask hides has weight 0, so the row's first cell stands for it: a short row reads no further."""
    b, g, length, e = value.shape
    slot, head = value.stride(0) // e, value.stride(1) // e  # how far apart they are, in cells
    table = (b - 1) * slot + (g - 1) * head + length
    small = torch.int32 if table < 2**31 else torch.int64  # half the index to read
    firsts = torch.arange(b, dtype=small)[:, None] * slot + torch.arange(g, dtype=small) * head  # (B, G)
    cells = torch.arange(length, dtype=small) * (mask[:, 0] == 0)  # (B, 1, L)
    index = (firsts[:, :, None] + cells)[:, :, None].expand(b, g, r, length)
    return _Bag(index.reshape(-1, length), _bias(mask, b, g, r).transpose(1, 2), table)


def _bias(mask: Tensor, b: int, g: int, r: int) -> Tensor:
    """The mask for each query of a group: (B*G, R, L)."""
    return mask.expand(b, g, r, mask.shape[-1]).reshape(b * g, r, -1)


def register_slot_attention() -> None:
    """Make the kernel known to transformers under SLOT_ATTENTION. Idempotent."""
    AttentionInterface.register(SLOT_ATTENTION, slot_attention)
    AttentionMaskInterface.register(SLOT_ATTENTION, sdpa_mask)
