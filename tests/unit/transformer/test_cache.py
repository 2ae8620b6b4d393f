"""The slot cache: exact memory arithmetic, growth within the budget, rows that survive every move."""

from __future__ import annotations

import weakref
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from services.families.transformer.state import RowState, SlotTable
from services.nn.cache_budget import CacheBudget, LayerShape
from services.nn.kv_cache import SlotCache
from services.nn.prefix_cache import PrefixCache, block_keys
from services.nn.text.detokenizer import TextState
from services.nn.text.params import GenerateParams, SamplingOptions
from services.nn.text.sampling import Seen

CPU = torch.device("cpu")
SHAPES = [LayerShape(2, 8, 8), LayerShape(2, 8, 4), LayerShape(1, 16, 16)]


def make_cache(limit: int = 10**9, block: int = 8) -> SlotCache:
    return SlotCache(CacheBudget(SHAPES, 4, limit, block), torch.float32, CPU)


class PeakMemory(TorchDispatchMode):
    """The most bytes that new tensors' storages hold at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            storage = out.untyped_storage()
            if storage._cdata not in self.live and storage.nbytes():
                self.live[storage._cdata] = storage.nbytes()
                weakref.finalize(out, self.live.pop, storage._cdata, None)
                self.peak = max(self.peak, sum(self.live.values()))
        return out


@given(st.integers(1, 9), st.integers(1, 100))
def test_the_size_of_a_shape_is_what_is_allocated(slots: int, length: int) -> None:
    cache = make_cache()
    cache.reserve(slots, length, max_slots=slots, used=0, used_length=0)
    assert cache.nbytes == cache.budget.size(slots, length)


def test_a_shape_fits_if_and_only_if_its_bytes_and_one_copy_of_the_largest_piece_do() -> None:
    budget = make_cache().budget
    cell = 4 * (2 * 8 * 2 + 2 * 8 + 2 * 4 + 16 + 16)
    largest = 4 * 16
    needed = 3 * 24 * (cell + largest)
    assert budget.peak(3, 17) == needed
    exact = CacheBudget(SHAPES, 4, needed, 8)
    short = CacheBudget(SHAPES, 4, needed - 1, 8)
    assert exact.fits(3, 24)
    assert not short.fits(3, 24)
    assert not exact.fits(3, 25)
    assert not exact.fits(4, 24)


@given(st.integers(0, 10**5))
def test_the_longest_row_fits_and_one_block_more_does_not(limit: int) -> None:
    budget = CacheBudget(SHAPES, 4, limit, 8)
    assert budget.longest() == 0 or budget.fits(1, budget.longest())
    assert not budget.fits(1, budget.longest() + 1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 80)), min_size=1, max_size=6))
def test_no_change_of_shape_exceeds_the_budget(shapes: list[tuple[int, int]]) -> None:
    limit = max(make_cache().budget.peak(slots, length) for slots, length in shapes)
    cache = make_cache(limit)
    with PeakMemory() as memory:
        for slots, length in shapes:
            cache.reserve(slots, length, max_slots=8, used=0, used_length=0)
            assert cache.slots >= slots
            assert cache.capacity >= length
            assert cache.nbytes <= limit
    assert cache.nbytes <= memory.peak <= limit


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(8, 80), st.integers(0, 9)), min_size=1, max_size=8))
def test_blocks_and_shapes_together_never_exceed_the_budget(rounds: list[tuple[int, int, int]]) -> None:
    limit = max(make_cache().budget.peak(slots, length) for slots, length, _ in rounds)
    cache = make_cache(limit)
    prefixes = PrefixCache(cache, 8)
    with PeakMemory() as memory:
        for number, (slots, length, prompts) in enumerate(rounds):
            cache.reserve(slots, length, max_slots=8, used=0, used_length=0)
            assert cache.slots >= slots
            assert cache.capacity >= length
            for prompt in range(prompts):
                chain = block_keys("", [number, prompt] * 40, 8)[: length // 8]
                for count in range(1, len(chain) + 1):
                    prefixes.keep(chain[:count], prompt % slots)
            assert cache.nbytes + cache.blocks.nbytes <= limit
            if number % 3 == 2:
                cache.clear()
    assert memory.peak <= limit


def test_slots_do_not_double_at_the_cost_of_blocks_but_take_what_they_need() -> None:
    budget = make_cache().budget
    block = budget.size(1, 8)
    cache = make_cache(budget.peak(4, 8) + block)
    prefixes = PrefixCache(cache, 8)
    cache.reserve(1, 8, max_slots=8, used=0, used_length=0)
    for prompt in range(100):
        prefixes.keep(block_keys("", [prompt] * 8, 8), 0)
    kept = len(cache.blocks)
    assert kept >= 3
    cache.reserve(2, 8, max_slots=8, used=0, used_length=0)
    cache.reserve(3, 8, max_slots=8, used=0, used_length=0)
    assert cache.slots == 3  # two would have doubled to four
    cache.reserve(4, 8, max_slots=8, used=0, used_length=0)
    assert (cache.slots, len(cache.blocks)) == (4, 1)


def test_slots_are_as_many_as_are_needed_beyond_where_they_double() -> None:
    cache = make_cache(2**20)
    for slots in (1, 2, 3):
        cache.reserve(slots, 8, max_slots=2, used=0, used_length=0)
        assert cache.slots == slots


def test_a_shape_over_the_budget_is_refused_before_anything_is_lost() -> None:
    cache = make_cache(make_cache().budget.peak(2, 16))
    cache.reserve(2, 16, max_slots=2, used=0, used_length=0)
    with pytest.raises(ValueError, match="exceed the cache's budget"):
        cache.reserve(3, 16, max_slots=8, used=0, used_length=0)
    assert (cache.slots, cache.capacity) == (2, 16)


def test_a_long_shape_gives_way_to_a_wide_one_within_the_budget() -> None:
    limit = make_cache().budget.peak(1, 64)
    cache = make_cache(limit)
    cache.reserve(1, 64, max_slots=8, used=0, used_length=0)
    cache.reserve(8, 8, max_slots=8, used=0, used_length=0)
    assert (cache.slots, cache.capacity) == (8, 8)


def new_row(length: int) -> RowState:
    params = GenerateParams("completion", tuple(range(length)), 1, seed=0, sampling=SamplingOptions())
    return RowState(params, Seen(None, None), TextState())


def fill(cache: SlotCache, row: RowState, value: float) -> None:
    row.length = len(row.params.prompt)
    for layer in cache.slot_layers:
        for piece in layer.cells:
            piece[row.slot, :, : row.length] = value


@given(st.lists(st.tuples(st.sampled_from(["join", "promote", "leave"]), st.integers(0, 7)), max_size=30))
def test_every_row_keeps_its_cells_whoever_joins_or_leaves(moves: list[tuple[str, int]]) -> None:
    cache = make_cache()
    table = SlotTable(cache)
    reading: list[RowState] = []
    decoding: list[RowState] = []
    values: dict[int, float] = {}
    for count, (move, pick) in enumerate(moves):
        if move == "join" and len(table) < 8:
            row = new_row(1 + 5 * pick)
            table.join(row, max_slots=8)
            fill(cache, row, count + 1)
            values[id(row)] = count + 1
            reading.append(row)
        elif move == "promote" and reading:
            row = reading.pop(pick % len(reading))
            table.promote(row)
            row.token = 1
            decoding.append(row)
        elif move == "leave" and (reading or decoding):
            rows = decoding if (pick % 2 and decoding) or not reading else reading
            table.leave(rows.pop(pick % len(rows)))
        assert sorted(row.slot for row in decoding) == list(range(len(decoding)))
        assert sorted(row.slot for row in decoding + reading) == list(range(len(table)))
        for row in decoding + reading:
            for layer in cache.slot_layers:
                assert (layer.cells[0][row.slot, :, : row.length] == values[id(row)]).all()
    for row in decoding + reading:
        table.leave(row)
    assert cache.nbytes == 0


def test_what_a_failed_row_left_behind_is_wiped_even_after_a_swap() -> None:
    cache = make_cache()
    table = SlotTable(cache)
    failed, healthy = new_row(4), new_row(9)
    for row in (failed, healthy):
        table.join(row, max_slots=4)
    failed.dirty = True
    for layer in cache.slot_layers:
        for piece in layer.cells:
            piece[failed.slot] = torch.nan
    table.promote(healthy)
    table.leave(failed)
    assert all(piece.isfinite().all() for layer in cache.slot_layers for piece in layer.cells)


@given(st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.booleans()), min_size=2, max_size=6), st.randoms())
def test_rows_that_fail_together_leave_no_trace_behind_the_last_row(
    rows: list[tuple[int, bool, bool]], random: Random
) -> None:
    cache = make_cache()
    table = SlotTable(cache)
    states = [new_row(length) for length, _, _ in rows]
    for row in states:
        table.join(row, max_slots=8)
        fill(cache, row, 1.0)
    for row, (_, decodes, _) in zip(states, rows, strict=True):
        if decodes:
            table.promote(row)
    failed = [row for row, (_, _, fails) in zip(states, rows, strict=True) if fails]
    for row in failed:
        row.dirty = True
        for layer in cache.slot_layers:
            for piece in layer.cells:
                piece[row.slot, :, row.length :] = torch.nan
    random.shuffle(failed)
    for row in failed:
        table.leave(row)
        for layer in cache.slot_layers:
            assert all(piece[len(table) :].isfinite().all() for piece in layer.cells)
    assert all(piece.isfinite().all() for layer in cache.slot_layers for piece in layer.cells)
