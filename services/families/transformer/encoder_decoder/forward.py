"""Owns the forwards of an encoder-decoder over the slot cache: reading some rows' sources, and one token of some rows.

A slot holds a row's keys and values of both kinds: of its target so far, and of its source, which are written once, as
it is read. The first half of the cache's layers are the target's, the second half the source's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from services.families.transformer.encoder_decoder.positions import RowPositions
from services.nn.kv_cache import CacheView, SlotCache, cache_view


class Source(NamedTuple):
    """What one row's encoder reads, for `slot`."""

    slot: int
    tokens: Sequence[int]


class Turn(NamedTuple):
    """The `token` that one row's decoder is given, for cell `past` of `slot`; `source` cells are its source's."""

    slot: int
    past: int
    token: int
    source: int


class PairForward:
    """Runs rows through the model. `start` is what every target begins with, `pad` fills short sources."""

    def __init__(
        self, model: PreTrainedModel, cache: SlotCache, positions: RowPositions, *, start: int, pad: int
    ) -> None:
        self.model: Any = model
        self._cache, self._positions, self._start, self._pad = cache, positions, start, pad
        half = len(cache.slot_layers) // 2
        self._own, self._cross = cache.slot_layers[:half], cache.slot_layers[half:]
        self._own_cache, self._cross_cache = Cache(layers=[*self._own]), Cache(layers=[*self._cross])

    def read(self, sources: Sequence[Source]) -> Tensor:
        """Encode the sources, and give the logits of each target's first token: (R, V) float32.

        Short sources are padded on the right, and masked.
        """
        device = self._cache.device
        width = max(len(source.tokens) for source in sources)
        ids = torch.full((len(sources), width), self._pad, device=device)
        for i, source in enumerate(sources):
            ids[i, : len(source.tokens)] = torch.tensor(source.tokens, device=device)
        valid = self._valid([len(source.tokens) for source in sources], width)
        states = self.model.get_encoder()(input_ids=ids, attention_mask=valid.long()).last_hidden_state
        turns = [Turn(source.slot, 0, self._start, len(source.tokens)) for source in sources]
        cells = torch.arange(width, device=device).expand(len(sources), -1)
        cross = cache_view(self._cache, [turn.slot for turn in turns], cells, valid, width)
        return self._run(turns, valid, states, cross)

    def decode(self, turns: Sequence[Turn]) -> Tensor:
        """Logits after each row's token: (R, V) float32. Encodes nothing: the sources' keys and values are there."""
        width = max(turn.source for turn in turns)
        valid = self._valid([turn.source for turn in turns], width)
        size = self.model.config.hidden_size
        nothing = torch.zeros(1, 1, size, dtype=self._cache.dtype, device=self._cache.device)
        return self._run(turns, valid, nothing.expand(len(turns), width, size), None)

    def _run(self, turns: Sequence[Turn], valid: Tensor, states: Tensor, writing: CacheView | None) -> Tensor:
        """states (R, S, D) of the sources are looked at only while `writing`, which says where their keys go."""
        device = self._cache.device
        positions = torch.tensor([[turn.past] for turn in turns], device=device)
        length = max(turn.past for turn in turns) + 1
        view = cache_view(self._cache, [turn.slot for turn in turns], positions, None, length)
        caches = EncoderDecoderCache(self._own_cache, self._cross_cache)
        caches.is_updated = dict.fromkeys(range(len(self._cross)), writing is None)
        try:
            self._look(view, writing, valid.shape[1])
            with self._positions.at(positions):
                logits = self.model(
                    encoder_outputs=BaseModelOutput(last_hidden_state=states),  # pyright: ignore[reportArgumentType]
                    attention_mask=valid.long(),
                    decoder_input_ids=torch.tensor([[turn.token] for turn in turns], device=device),
                    decoder_attention_mask=self._mask(positions, length),
                    past_key_values=caches,
                    use_cache=True,
                ).logits
        finally:
            self._look(None, None, 0)
        return logits[:, -1].float()

    def _look(self, view: CacheView | None, writing: CacheView | None, width: int) -> None:
        """Set the windows of the next forward: on the targets, and on sources, to be written or read."""
        for layer in self._own:
            layer.view = view
        for layer in self._cross:
            layer.view, layer.keys, layer.values = writing, None, None
            if view is not None and writing is None:
                layer.keys, layer.values = (cells[view.rows, :, :width] for cells in layer.cells)

    def _valid(self, lengths: Sequence[int], width: int) -> Tensor:
        """(R, width) bool."""
        device = self._cache.device
        return torch.arange(width, device=device) < torch.tensor(lengths, device=device)[:, None]

    def _mask(self, positions: Tensor, length: int) -> Tensor:
        """(R, 1, 1, length): 0 up to each query's own position, the least there is behind."""
        hidden = torch.arange(length, device=positions.device) > positions[:, :, None]
        mask = torch.zeros(hidden.shape, dtype=self._cache.dtype, device=positions.device)
        return mask.masked_fill_(hidden, torch.finfo(self._cache.dtype).min)[:, None]
