"""Stored beginnings of prompts: what a key stands for, which block goes first, and that a copy is a copy."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.nn.block_store import BlockStore
from services.nn.cache_budget import CacheBudget, LayerShape
from services.nn.kv_cache import SlotCache
from services.nn.prefix_cache import PrefixCache, block_keys

SHAPES = [LayerShape(2, 8, 4), LayerShape(1, 16, 16)]
SIZE = 4
BLOCK = torch.zeros(10)


def make_cache(limit: int = 10**9, slots: int = 3, length: int = 16) -> SlotCache:
    """A cache whose cells all differ."""
    cache = SlotCache(CacheBudget(SHAPES, 4, limit, block=8), torch.float32, torch.device("cpu"))
    cache.reserve(slots, length, max_slots=slots, used=0, used_length=0)
    for layer in cache.slot_layers:
        for i, piece in enumerate(layer.cells):
            layer.cells[i] = torch.arange(piece.numel(), dtype=torch.float32).view(piece.shape)
    return cache


def keep_all(prefixes: PrefixCache, chain: tuple[bytes, ...], slot: int) -> None:
    for count in range(1, len(chain) + 1):
        prefixes.keep(chain[:count], slot)


def test_a_key_stands_for_all_tokens_up_to_its_blocks_end_and_the_salt() -> None:
    tokens = list(range(100, 114))
    keys = block_keys("ann", tokens, SIZE)
    assert len(set(keys)) == 3  # the last two tokens make no block
    assert block_keys("ann", tokens[:8], SIZE) == keys[:2]
    assert block_keys("ann", [*tokens[:7], 0, *tokens[8:]], SIZE)[0] == keys[0]
    assert not set(block_keys("ann", [*tokens[:7], 0, *tokens[8:]], SIZE)[1:]) & set(keys)
    assert not set(block_keys("bob", tokens, SIZE)) & set(keys)
    assert not set(block_keys("", tokens, SIZE)) & set(keys)
    assert block_keys("ann", tokens[:3], SIZE) == ()


def test_the_block_used_longest_ago_goes_first_and_of_a_chain_the_last() -> None:
    store = BlockStore()
    a, b = (block_keys(salt, range(12), SIZE) for salt in "ab")
    for chain in (a, b):
        for count in (1, 2, 3):
            store.put(chain[:count], BLOCK)
    store.use(a)
    store.shrink(4 * BLOCK.nbytes)
    assert [key in store for key in (*a, *b)] == [True, True, True, True, False, False]
    store.shrink(2 * BLOCK.nbytes)
    assert [key in store for key in (*a, *b)] == [True, True, False, False, False, False]
    assert store.use(a) == 2


@given(
    st.lists(st.tuples(st.sampled_from(["put", "use", "shrink"]), st.integers(0, 26), st.integers(1, 3)), max_size=40)
)
def test_no_block_outlives_one_before_it(moves: list[tuple[str, int, int]]) -> None:
    store = BlockStore()
    # Prompts of three blocks, each of one of three kinds: many share a beginning.
    chains = [block_keys("", [n // 9, n // 3 % 3, n % 3], 1) for n in range(27)]
    for move, pick, count in moves:
        chain = chains[pick][:count]
        if move == "put" and store.use(chain) == count - 1:
            store.put(chain, BLOCK)
        elif move == "use":
            store.use(chain)
        elif move == "shrink":
            store.shrink(count * BLOCK.nbytes)
        for each in chains:
            here = [key in store for key in each]
            assert here == sorted(here, reverse=True), "a block that no prompt can find is kept"
        assert store.nbytes == len(store) * BLOCK.nbytes


def test_a_slot_that_resumes_holds_what_the_other_held_and_nothing_else_changes() -> None:
    cache = make_cache()
    prefixes = PrefixCache(cache, SIZE)
    chain = block_keys("", range(16), SIZE)
    keep_all(prefixes, chain[:3], 2)
    before = [[piece.clone() for piece in layer.cells] for layer in cache.slot_layers]
    assert prefixes.resume(chain, 0, SIZE) == 3 * SIZE  # it has read the first block by itself
    for layer, old in zip(cache.slot_layers, before, strict=True):
        for piece, was in zip(layer.cells, old, strict=True):
            expected = was.clone()
            expected[0, :, SIZE : 3 * SIZE] = was[2, :, SIZE : 3 * SIZE]
            assert torch.equal(piece, expected)
    assert prefixes.resume(chain, 0, 3 * SIZE) == 3 * SIZE
    assert prefixes.resume(block_keys("x", range(16), SIZE), 1, 0) == 0


def test_a_kept_block_does_not_change_with_the_slot_that_it_came_from() -> None:
    cache = make_cache()
    prefixes = PrefixCache(cache, SIZE)
    chain = block_keys("", range(4), SIZE)
    prefixes.keep(chain, 1)
    held = [piece[1, :, :SIZE].clone() for layer in cache.slot_layers for piece in layer.cells]
    cache.wipe_row(1)
    prefixes.resume(chain, 0, 0)
    for piece, kept in zip((piece for layer in cache.slot_layers for piece in layer.cells), held, strict=True):
        assert torch.equal(piece[0, :, :SIZE], kept)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_block_with_a_value_that_is_not_finite_is_not_kept(value: float) -> None:
    cache = make_cache()
    cache.slot_layers[1].cells[0][1, 0, 2, 5] = value
    prefixes = PrefixCache(cache, SIZE)
    keep_all(prefixes, block_keys("", range(8), SIZE), 1)
    assert len(cache.blocks) == 0  # nor the one behind it, which could not be found
    prefixes.keep(block_keys("", range(4), SIZE), 0)
    assert len(cache.blocks) == 1


def test_a_prompt_longer_than_the_room_keeps_its_beginning_and_costs_others_nothing_more() -> None:
    budget = make_cache().budget
    block = SIZE * sum(budget.pieces)
    cache = make_cache(limit=budget.peak(3, 16) + 2 * block)
    prefixes = PrefixCache(cache, SIZE)
    long, other = (block_keys(salt, range(16), SIZE) for salt in "ab")
    keep_all(prefixes, long, 0)
    assert [key in cache.blocks for key in long] == [True, True, False, False]
    keep_all(prefixes, other[:1], 0)
    assert [key in cache.blocks for key in (*long, *other)] == [True, *[False] * 3, True, *[False] * 3]


def test_clearing_the_slots_leaves_the_blocks() -> None:
    cache = make_cache()
    prefixes = PrefixCache(cache, SIZE)
    chain = block_keys("", range(4), SIZE)
    prefixes.keep(chain, 0)
    cache.clear()
    assert (cache.nbytes, len(cache.blocks)) == (0, 1)
    cache.reserve(1, 8, max_slots=1, used=0, used_length=0)
    assert prefixes.resume(chain, 0, 0) == SIZE
