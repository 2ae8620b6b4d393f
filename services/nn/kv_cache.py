"""Owns the slot cache: preallocated keys and values of running rows under an unchanged transformers model.

A slot is a row's index in `[slots, heads, length, dim]` tensors, one pair a layer. Whoever drives the cache decides
which row has which slot, and says by a `CacheView` where the next forward writes and what it reads. What the slots
leave of the budget may hold blocks, copies of pieces of slots, which go before a slot does. The cache never knows a
request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from services.nn.block_store import BlockStore
from services.nn.cache_budget import CacheBudget, LayerShape


@dataclass(frozen=True, slots=True)
class CacheView:
    """One forward's window on the cache, for R rows of T queries each.

    `write[h]`: flat cell indices (R * h * T less padding) for a layer of h heads, in the order of (row, head, query).
    `valid[h]`: which of the R * h * T new entries those are, or None for all. `rows`: the R slots, a slice where they
    are contiguous. Keys and values are read up to `length`.
    """

    write: Mapping[int, Tensor]
    valid: Mapping[int, Tensor] | None
    rows: slice | Tensor
    length: int


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values. Zero until written: what a mask hides must still be finite."""

    is_sliding = False

    def __init__(self, shape: LayerShape, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.shape, self.dtype, self.device = shape, dtype, device
        self.view: CacheView | None = None
        self.is_initialized = True
        self.cells = [self.empty(0, 0, dim) for dim in (shape.key_dim, shape.value_dim)]  # keys, values

    def empty(self, slots: int, length: int, dim: int) -> Tensor:
        return torch.zeros(slots, self.shape.heads, length, dim, dtype=self.dtype, device=self.device)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: shapes are known from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write (R, heads, T, dim) at the view's cells, and return (R, heads, view.length, dim) to attend to."""
        view = self.view
        assert view is not None, "no view: the cache was used outside of a step"
        heads = self.shape.heads
        write = view.write[heads]
        valid = None if view.valid is None else view.valid[heads]
        for cells, states in zip(self.cells, (key_states, value_states), strict=True):
            flat = states.reshape(-1, states.shape[-1])
            cells.view(-1, cells.shape[-1]).index_copy_(0, write, flat if valid is None else flat[valid])
        keys, values = self.cells
        return keys[view.rows, :, : view.length], values[view.rows, :, : view.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return (0 if self.view is None else self.view.length), 0

    def get_seq_length(self) -> int:
        return 0 if self.view is None else self.view.length

    def get_max_length(self) -> int:
        return self.cells[0].shape[2]


class SlotCache(Cache):
    """All layers' slots. Shapes come from `reserve`, within `budget`; forwards run between two calls of `look`.

    `blocks` never hold more than `spare` bytes: whoever adds one asks first, and `reserve` lets them go.
    """

    def __init__(self, budget: CacheBudget, dtype: torch.dtype, device: torch.device) -> None:
        self.slot_layers = [SlotLayer(shape, dtype, device) for shape in budget.layers]
        super().__init__(layers=list(self.slot_layers))
        self.budget, self.dtype, self.device = budget, dtype, device
        self.blocks = BlockStore()
        self.slots = self.capacity = 0
        self.head_counts = sorted({shape.heads for shape in budget.layers})

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self._pieces())

    @property
    def spare(self) -> int:
        """Bytes of the budget that this shape leaves, its next change included."""
        return self.budget.limit - self.budget.peak(self.slots, self.capacity)

    def look(self, view: CacheView | None) -> None:
        """Set the window of the next forward."""
        for layer in self.slot_layers:
            layer.view = view

    def reserve(self, slots: int, length: int, *, max_slots: int, used: int, used_length: int) -> None:
        """Hold at least `slots` rows of `length` tokens, keeping the first `used` rows' first `used_length` tokens.

        Slots double, up to `max_slots`, while the budget and the blocks allow; a shape that would exceed it is cut to
        exactly what is needed, and only then blocks go, the one used longest ago first.
        Raises ValueError if the budget does not admit the shape: the caller must ask `budget.fits` first.
        """
        length = self.budget.padded(length)
        if slots <= self.slots and length <= self.capacity:
            return
        if not self.budget.fits(slots, length):
            raise ValueError(f"{slots} slots of {length} tokens exceed the cache's budget")
        doubled = max(slots, min(max_slots, 2 * self.slots if slots > self.slots else self.slots))
        longest = max(length, self.capacity)
        room = self.budget.limit - self.blocks.nbytes
        generous = ((doubled, longest), (slots, longest))
        shape = next((each for each in generous if self.budget.peak(*each) <= room), (slots, length))
        self.blocks.shrink(self.budget.limit - self.budget.peak(*shape))
        self._reshape(*shape, used=used, used_length=used_length)

    def clear(self) -> None:
        """Give the slots' memory back; every row is lost, and the blocks stay."""
        self._reshape(0, 0, used=0, used_length=0)

    def _reshape(self, slots: int, capacity: int, *, used: int, used_length: int) -> None:
        for layer in self.slot_layers:
            for i, dim in enumerate((layer.shape.key_dim, layer.shape.value_dim)):
                piece = layer.empty(slots, capacity, dim)
                piece[:used, :, :used_length] = layer.cells[i][:used, :, :used_length]
                layer.cells[i] = piece  # frees the old piece before the next is made
        self.slots, self.capacity = slots, capacity

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot over another's."""
        for piece in self._pieces():
            piece[target, :, :length] = piece[source, :, :length]

    def swap_rows(self, a: int, b: int, length: int) -> None:
        """Exchange the first `length` tokens of two slots."""
        for piece in self._pieces():
            kept = piece[a, :, :length].clone()
            piece[a, :, :length] = piece[b, :, :length]
            piece[b, :, :length] = kept

    def wipe_row(self, slot: int) -> None:
        """Zero a slot: non-finite leftovers would reach a later row through zero attention weights (0 * nan = nan)."""
        for piece in self._pieces():
            piece[slot] = 0

    def wipe_cells(self, slot: int, start: int, stop: int) -> None:
        """Zero a part of a slot, for the same reason."""
        for part in self._parts(slot, start, stop):
            part.zero_()

    def read_block(self, slot: int, start: int, stop: int) -> Tensor:
        """A flat copy of a slot's tokens from `start` to `stop`."""
        parts = self._parts(slot, start, stop)
        block = torch.empty(sum(part.numel() for part in parts), dtype=self.dtype, device=self.device)
        for part, place in _places(block, parts):
            place.copy_(part)  # at once: a copy on the way would exceed the budget
        return block

    def write_block(self, slot: int, start: int, stop: int, block: Tensor) -> None:
        """Put what `read_block` gave over as many tokens of a slot."""
        for part, place in _places(block, self._parts(slot, start, stop)):
            part.copy_(place)

    def _parts(self, slot: int, start: int, stop: int) -> list[Tensor]:
        return [piece[slot, :, start:stop] for piece in self._pieces()]

    def _pieces(self) -> Sequence[Tensor]:
        return [piece for layer in self.slot_layers for piece in layer.cells]


def _places(block: Tensor, parts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Each part with its place in a flat block, in the part's own shape."""
    places = block.split([part.numel() for part in parts])
    return [(part, place.view(part.shape)) for part, place in zip(parts, places, strict=True)]


def row_slots(slots: Sequence[int], device: torch.device) -> slice | Tensor:
    """The slots of rows: a slice, which reads without a copy, where they are contiguous."""
    contiguous = all(b == a + 1 for a, b in pairwise(slots))
    return slice(slots[0], slots[-1] + 1) if contiguous else torch.tensor(slots, device=device)


def cache_view(
    cache: SlotCache, slots: Sequence[int], positions: Tensor, valid: Tensor | None, length: int
) -> CacheView:
    """The window for R rows. positions (R, T) int64: the cell of each query; valid (R, T) bool: False is padding."""
    index = torch.tensor(slots, device=cache.device)
    write: dict[int, Tensor] = {}
    kept: dict[int, Tensor] = {}
    for heads in cache.head_counts:
        lanes = index[:, None] * heads + torch.arange(heads, device=cache.device)  # (R, heads)
        cells = (lanes[:, :, None] * cache.capacity + positions[:, None, :]).reshape(-1)
        if valid is not None:
            kept[heads] = valid[:, None, :].expand(-1, heads, -1).reshape(-1).nonzero().squeeze(-1)
            cells = cells[kept[heads]]
        write[heads] = cells
    return CacheView(write, None if valid is None else kept, row_slots(slots, cache.device), length)


def flat_view(cache: SlotCache, slots: Tensor, positions: Tensor) -> CacheView:
    """The window for one row of N tokens, of any slots: slots (N), positions (N) int64. All slots are read whole."""
    write: dict[int, Tensor] = {}
    for heads in cache.head_counts:
        lanes = slots * heads + torch.arange(heads, device=cache.device)[:, None]  # (heads, N)
        write[heads] = (lanes * cache.capacity + positions).reshape(-1)
    return CacheView(write, None, slice(None), cache.capacity)
