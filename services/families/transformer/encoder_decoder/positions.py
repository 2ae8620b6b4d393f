"""Owns where each row of a batch stands in its target, told to models that count one place for all rows.

transformers' decoders of this shape take no positions: they count from the cache, as if all rows had come equally far.
Two ways of counting are known: a table of positions (BART, Marian), and a bias by distance (T5). Both are asked by row.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_TABLE, _BIAS = "embed_positions", "relative_attention_bias"


class RowPositions:
    """The places of the queries of the forward that runs: (R, T) int64. None: as the model itself counts."""

    def __init__(self) -> None:
        self.now: Tensor | None = None

    @contextmanager
    def at(self, positions: Tensor) -> Generator[None]:
        self.now = positions
        try:
            yield
        finally:
            self.now = None


class _RowTable(nn.Module):
    """A table of positions, looked up by row."""

    def __init__(self, table: nn.Module, positions: RowPositions) -> None:
        super().__init__()
        self.table, self._positions = table, positions

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """(R, T, D), or what the table itself gives."""
        now = self._positions.now
        if now is None:
            return self.table(*args, **kwargs)
        return self.table(args[0], 0, position_ids=now).reshape(*now.shape, -1)


class _RowBias:
    """T5's bias by distance (Shaw 2018, arXiv:1803.02155; buckets: T5, section 2.1), by row."""

    def __init__(self, attention: Any, positions: RowPositions) -> None:
        self._attention, self._positions = attention, positions
        self._plain = attention.compute_bias

    def __call__(self, query_length: int, key_length: int, **kwargs: Any) -> Tensor:
        """(R, H, T, L), or what the attention itself gives."""
        now = self._positions.now
        if now is None:
            return self._plain(query_length, key_length, **kwargs)
        attention = self._attention
        distance = torch.arange(key_length, device=now.device) - now[:, :, None]  # (R, T, L)
        buckets = attention._relative_position_bucket(
            distance,
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        return attention.relative_attention_bias(buckets).permute(0, 3, 1, 2)


def count_by_row(decoder: nn.Module) -> tuple[RowPositions, bool]:
    """Make the decoder count by row, in place; and whether it has a table, which ends somewhere."""
    positions = RowPositions()
    has_table = False
    for module in [*decoder.modules()]:
        names = {name for name, _ in module.named_children()}
        if _TABLE in names:
            setattr(module, _TABLE, _RowTable(module.get_submodule(_TABLE), positions))
            has_table = True
        if _BIAS in names:
            setattr(module, "compute_bias", _RowBias(module, positions))  # noqa: B010 - no name of nn.Module's
    return positions, has_table
