"""Owns the linear layers' CPU form: weights packed once by oneDNN where that is faster than torch's default.

torch multiplies by MKL, which is slow on AMD; oneDNN's packed kernels compute the same product (same dtype, another
order of summation: equal to a few units in the last place). They are private operators of torch, so the plain layer
stays the fallback, and a micro-benchmark at start-up decides for the whole model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

import structlog
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

BATCHES = (1, 16)  # rows of the decode steps that the benchmark times
_CALLS = 4
_ENOUGH_S = 0.02  # of one product: what takes longer is not repeated, for little disturbs it
# Packed unless clearly slower: a near tie, decided by noise, would round differently from one start to the next.
_MARGIN = 1.25

Linear = nn.Linear | Conv1D


class PackedLinear(nn.Module):
    """y = x W^T + b with W reordered for oneDNN. x (..., in) -> (..., out), dtype of W; CPU only, inference only."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.dtype = weight.dtype
        # A plain attribute: an opaque tensor can be neither moved nor saved, and must not look as if it could.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")

    @property
    def nbytes(self) -> int:
        return self.out_features * self.in_features * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class PackingReport:
    """What the micro-benchmark saw: seconds for one pass over the model's linear layers, batches 1 and 16 (BATCHES)."""

    packed: bool
    plain_s: tuple[float, ...]
    packed_s: tuple[float, ...]
    layers: int

    @property
    def taken_s(self) -> tuple[float, ...]:
        """Of the kernels that the model runs by."""
        return self.packed_s if self.packed else self.plain_s


def pack_linears(model: nn.Module) -> PackingReport:
    """Replace the model's linear layers by packed ones, in place, unless that is slower here. Logged with its figures.

    Covers nn.Linear and GPT-2's Conv1D (whose weight is stored transposed). A weight that a layer shares with the
    token embedding stays for the embedding.
    """
    sites = list(_sites(model))
    plain_s, packed_s, packed = _benchmark([linear for _, _, linear in sites])
    report = PackingReport(sum(packed_s) < _MARGIN * sum(plain_s), plain_s, packed_s, len(sites))
    if report.packed:
        while sites:  # one by one, so that each plain weight is freed before the next is packed
            parent, name, linear = sites.pop()
            setattr(parent, name, packed.pop(linear, None) or PackedLinear(*_weights(linear)))
    structlog.get_logger(__name__).info(
        "linear_layers",
        kernels="onednn" if report.packed else "default",
        plain_ms=round(sum(plain_s) * 1e3, 3),
        packed_ms=round(sum(packed_s) * 1e3, 3),
        layers=report.layers,
    )
    return report


def packed_bytes(model: nn.Module) -> int:
    """Bytes of the packed weights, which are no parameters of the module."""
    return sum(module.nbytes for module in model.modules() if isinstance(module, PackedLinear))


def _sites(model: nn.Module) -> Iterator[tuple[nn.Module, str, Linear]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            # Subclasses may compute something else in forward; only the exact types are known.
            if (type(child) is nn.Linear or type(child) is Conv1D) and child.weight.device.type == "cpu":
                yield parent, name, child


def _weights(linear: Linear) -> tuple[Tensor, Tensor | None]:
    weight = linear.weight.t() if isinstance(linear, Conv1D) else linear.weight  # (out, in)
    return weight, linear.bias


def _benchmark(linears: list[Linear]) -> tuple[tuple[float, ...], tuple[float, ...], dict[Linear, PackedLinear]]:
    """Best-of times of each batch, plain and packed, over the distinct shapes, weighted by how many layers have each.

    With them the layers that were packed for it: one of each shape.
    """
    shapes: dict[tuple[int, ...], list[Linear]] = {}
    for linear in linears:
        shapes.setdefault((isinstance(linear, Conv1D), *linear.weight.shape), []).append(linear)
    plain_s, packed_s = [0.0 for _ in BATCHES], [0.0 for _ in BATCHES]
    made: dict[Linear, PackedLinear] = {}
    with torch.inference_mode():
        for group in shapes.values():
            weight, bias = _weights(group[0])
            try:
                packed = PackedLinear(weight, bias)
            except (RuntimeError, AttributeError):  # this build or this dtype has no oneDNN kernel
                return (0.0,) * len(BATCHES), (inf,) * len(BATCHES), {}
            made[group[0]] = packed
            for i, rows in enumerate(BATCHES):
                x = torch.ones(rows, 1, weight.shape[1], dtype=weight.dtype)
                plain_s[i] += len(group) * _best_of(lambda x=x, w=weight, b=bias: nn.functional.linear(x, w, b))
                packed_s[i] += len(group) * _best_of(lambda x=x, p=packed: p(x))
    return tuple(plain_s), tuple(packed_s), made


def _best_of(call: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < _CALLS and sum(times) < _ENOUGH_S:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)
