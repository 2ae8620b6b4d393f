"""Owns LoRA's arithmetic (Hu 2021, arXiv:2106.09685), and how an adapter takes its place in a model for a forward.

A model's weights are never changed, copied or wrapped for good: while an adapter is active, the layers that it changes
stand behind others in the module tree. Whoever runs the model alone activates adapters, so that nobody else sees it.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from services.nn.linears import PackedLinear
from services.nn.text.rows import TextRow


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A linear layer and its place: `parent`'s child of that name. `inputs` and `outputs` are its widths."""

    parent: nn.Module
    child: str
    linear: nn.Module
    inputs: int
    outputs: int


def linear_sites(model: nn.Module) -> dict[str, Site]:
    """Every linear layer of the model by its full name, packed or plain, GPT-2's transposed Conv1D among them."""
    sites: dict[str, Site] = {}
    for path, parent in model.named_modules():
        for child, module in parent.named_children():
            if type(module) is Conv1D:
                inputs, outputs = module.weight.shape
            elif type(module) is nn.Linear or type(module) is PackedLinear:
                inputs, outputs = module.in_features, module.out_features
            else:
                continue
            sites[f"{path}.{child}" if path else child] = Site(parent, child, module, inputs, outputs)
    return sites


class LoraLinear(nn.Module):
    """y = linear(x) + scaling (x A^T) B^T: equation 3, whose W0 is the linear layer's. x (..., in) -> (..., out).

    down (in, r) is A^T and up (r, out) is B^T, in the dtype and on the device of the layer's weights.
    """

    def __init__(self, linear: nn.Module, down: Tensor, up: Tensor, scaling: float) -> None:
        super().__init__()
        self.linear = linear
        self.down, self.up, self.scaling = down, up, scaling

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        low = x.reshape(-1, x.shape[-1]) @ self.down
        return y.reshape(-1, y.shape[-1]).addmm_(low, self.up, alpha=self.scaling).view(y.shape)


class Adapter:
    """The layers that an adapter puts over those of its base, each (site, layer). `key` is one that no other has."""

    def __init__(self, layers: Sequence[tuple[Site, LoraLinear]]) -> None:
        self.key = secrets.token_hex(16)
        self._layers = tuple(layers)

    @property
    def nbytes(self) -> int:
        return sum(layer.down.nbytes + layer.up.nbytes for _, layer in self._layers)

    @contextmanager
    def active(self) -> Generator[None]:
        """The base computes with the adapter's changes meanwhile. On the thread that runs it, and never nested."""
        try:
            for site, layer in self._layers:
                children(site.parent)[site.child] = layer
            yield
        finally:
            for site, _ in self._layers:
                children(site.parent)[site.child] = site.linear


def children(parent: nn.Module) -> dict[str, nn.Module | None]:
    """The module's own table: assigning attributes does much more, which is not needed to exchange like for like."""
    return parent._modules  # pyright: ignore[reportPrivateUsage]


def adapted(rows: Sequence[TextRow]) -> AbstractContextManager[None]:
    """The adapter of rows that share a step, active; nothing if they have none."""
    adapter = rows[0].params.adapter if rows else None
    return nullcontext() if adapter is None else adapter.active()
