"""Shared torch parts: packed linear layers, generators, device errors, one-query attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from services.engine.errors import DeviceFailure
from services.nn.attention import slot_attention
from services.nn.device import device_errors
from services.nn.linears import BATCHES, PackedLinear, pack_linears, packed_bytes
from services.nn.rng import derive_seed, row_generator


def has_packed_kernel(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs this dtype on this processor: bfloat16 takes AVX-512."""
    try:
        PackedLinear(torch.ones(16, 16, dtype=dtype), None)
    except RuntimeError:
        return False
    return True


PACKED = [dtype for dtype in (torch.float32, torch.bfloat16) if has_packed_kernel(dtype)]


@pytest.mark.parametrize("dtype", PACKED)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (16, 1), (2, 33)])
def test_a_packed_layer_computes_the_plain_product(shape: tuple[int, int], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(96, 160, bias=bias, dtype=dtype)
    x = torch.randn(*shape, 96, dtype=dtype)
    with torch.inference_mode():
        expected, got = layer(x), PackedLinear(layer.weight, layer.bias)(x)
    torch.testing.assert_close(got, expected, rtol=2e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-4)
    assert got.shape == (*shape, 160)


def test_a_packed_row_does_not_depend_on_its_batch_mates() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(256, 512)
    packed = PackedLinear(layer.weight, layer.bias)
    x = torch.randn(16, 1, 256)
    with torch.inference_mode():
        together = packed(x)
        alone = torch.cat([packed(x[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


class Wide(nn.Module):
    """Layers for which packing pays on most CPUs, of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4096, 256)
        self.conv = Conv1D(512, 256)
        self.up = nn.Linear(512, 256)
        self.head = nn.Linear(256, 4096, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.up(self.conv(self.embed(ids)).relu()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_keeps_its_function_whether_its_dtype_can_be_packed_here_or_not(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Wide().to(dtype).eval()
    ids = torch.arange(12).view(4, 3)
    with torch.inference_mode():
        before = model(ids)
        report = pack_linears(model)
        after = model(ids)
    assert report.packed <= has_packed_kernel(dtype)
    torch.testing.assert_close(after, before, rtol=5e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-2)


def test_packing_a_model_keeps_its_function_and_reports_what_it_measured() -> None:
    torch.manual_seed(0)
    model = Wide().eval()
    ids = torch.arange(12).view(4, 3)
    with torch.inference_mode():
        expected = model(ids)
        report = pack_linears(model)
        torch.testing.assert_close(model(ids), expected, rtol=1e-4, atol=1e-4)
    assert report.layers == 3
    assert report.packed == (sum(report.packed_s) < 1.25 * sum(report.plain_s))
    assert report.taken_s == (report.packed_s if report.packed else report.plain_s)
    assert len(report.taken_s) == len(BATCHES)
    assert packed_bytes(model) == (4 * (256 * 512 + 512 * 256 + 256 * 4096) if report.packed else 0)


def test_layers_with_a_forward_of_their_own_are_left_alone() -> None:
    class Doubling(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(Doubling(8, 8))
    assert pack_linears(model).layers == 0
    assert type(model[0]) is Doubling


def test_derived_seeds_differ_by_row_and_repeat() -> None:
    seeds = {derive_seed(seed, row) for seed in (-(2**63), -1, 0, 1, 2**63 - 1) for row in range(100)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(7, 3) == derive_seed(7, 3)
    assert derive_seed(None, 0) != derive_seed(None, 0)


def test_a_row_generator_is_its_own() -> None:
    first, second = row_generator(5), row_generator(5)
    torch.rand(10)
    assert torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_errors_of_the_device_are_device_failures(error: Exception) -> None:
    with pytest.raises(DeviceFailure) as caught, device_errors():
        raise error
    assert caught.value.__cause__ is error


def test_errors_of_a_batch_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="shape mismatch"), device_errors():
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("queries", [1, 3, 8])
def test_attention_is_the_definition(queries: int, groups: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cells = torch.randn(2, 5, groups, 32, 16).to(dtype)  # a pool of more slots and cells than are read
    key, value = cells[0][:3, :, :20], cells[1][:3, :, :20]
    query = torch.randn(3, 4, queries, 16).to(dtype)
    positions = torch.tensor([4, 11, 0])[:, None] + torch.arange(queries)
    hidden = torch.arange(20) > positions[:, :, None]
    mask = torch.zeros(3, 1, queries, 20, dtype=dtype).masked_fill(hidden[:, None], -torch.inf)
    got, _ = slot_attention(nn.Module(), query, key, value, mask, scaling=0.3)
    k, v = (x.float().repeat_interleave(4 // groups, dim=1) for x in (key, value))
    weights = (query.float() @ k.transpose(2, 3) * 0.3 + mask.float()).softmax(-1)
    expected = (weights @ v).transpose(1, 2)
    tolerance = 1e-5 if dtype is torch.float32 else 3e-2
    torch.testing.assert_close(got.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", ["slots", "gathered", "tokens first"])
def test_attention_of_one_query_reads_values_as_they_lie(layout: str) -> None:
    torch.manual_seed(0)
    cells = torch.randn(2, 6, 2, 32, 16)
    rows = torch.tensor([4, 1, 2]) if layout == "gathered" else slice(1, 4)
    key, value = cells[0][rows, :, :20], cells[1][rows, :, :20]
    if layout == "tokens first":  # cells of one head are not neighbours
        value = value.transpose(1, 2).contiguous().transpose(1, 2)
    query = torch.randn(3, 4, 1, 16)
    mask = torch.zeros(3, 1, 1, 20).masked_fill(
        (torch.arange(20) > torch.tensor([7, 19, 0])[:, None])[:, None, None], -torch.inf
    )
    got, _ = slot_attention(nn.Module(), query, key, value, mask)
    k, v = (x.repeat_interleave(2, dim=1) for x in (key, value))
    expected = nn.functional.scaled_dot_product_attention(query, k, v, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_attention_of_one_query_is_the_same_alone_and_beside_a_longer_row() -> None:
    torch.manual_seed(0)
    key, value = torch.randn(2, 2, 3, 200, 16)
    query = torch.randn(2, 3, 1, 16)
    mask = torch.zeros(2, 1, 1, 200)
    mask[0, :, :, 5:] = -torch.inf
    together, _ = slot_attention(nn.Module(), query, key, value, mask)
    alone, _ = slot_attention(nn.Module(), query[:1], key[:1, :, :5], value[:1, :, :5], mask[:1, :, :, :5])
    torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-6)


def test_score_modifiers_that_the_kernels_lack_are_refused() -> None:
    x = torch.zeros(1, 1, 1, 4)
    with pytest.raises(NotImplementedError, match="softcap"):
        slot_attention(nn.Module(), x, x, x, None, softcap=30.0)
