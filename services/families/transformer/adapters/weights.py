"""Owns the way from an adapter's folder to an adapter of a model, and the refusal of what does not fit it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from services.families.transformer.adapters.config import LoraConfig, UnsupportedAdapter, read_lora_config
from services.families.transformer.adapters.lora import Adapter, LoraLinear, Site

WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<which>[AB])\.weight")

Pair = dict[str, Tensor]  # "A" (r, in) and "B" (out, r)


def load_adapter(
    folder: Path, sites: Mapping[str, Site], *, output: str | None, dtype: torch.dtype, device: torch.device
) -> Adapter:
    """The folder's adapter for the model of these linear layers, its matrices in the model's dtype.

    `output` is the layer that makes the logits. Raises UnsupportedAdapter that names the field, or the weight.
    """
    config = read_lora_config(folder)
    pairs = _read(folder)
    _check_layers(config, pairs, sites, output)
    layers: list[tuple[Site, LoraLinear]] = []
    for name, pair in pairs.items():
        site = sites[name]
        _check_pair(name, pair, site, config.rank(name))
        down, up = (pair[which].t().to(device, dtype).contiguous() for which in "AB")
        layers.append((site, LoraLinear(site.linear, down, up, config.scaling(name))))
    return Adapter(layers)


def _read(folder: Path) -> dict[str, Pair]:
    """Matrices by the layer's name, each layer with both of its own."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise UnsupportedAdapter(WEIGHTS, "the folder has none; save the adapter as safetensors")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UnsupportedAdapter(WEIGHTS, f"it cannot be read: {error}") from None
    pairs: dict[str, Pair] = {}
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise UnsupportedAdapter(key[:128], _strange(key))
        pairs.setdefault(found["layer"], {})[found["which"]] = tensor
    for name, pair in pairs.items():
        if len(pair) != 2:
            raise UnsupportedAdapter(name[:128], f"its weights have lora_{next(iter(pair))} alone")
    return pairs


def _strange(key: str) -> str:
    """Why a weight that is no matrix of a linear layer's is refused."""
    if "lora_embedding" in key:
        return "an embedding's adapter is not served"
    if not re.search(r"\.lora_", key):  # peft adds them by itself where an embedding or the output is adapted
        return "it would replace a weight of the base; save the adapter with save_embedding_layers=False"
    return "only matrices of linear layers are served"


def _check_layers(config: LoraConfig, pairs: Mapping[str, Pair], sites: Mapping[str, Site], output: str | None) -> None:
    """The weights are those of exactly the layers that the configuration means, all of them the base's."""
    if strange := next((name for name in pairs if name not in sites), None):
        raise UnsupportedAdapter(strange[:128], f"its base has no such linear layer; it has {_names(sites)}")
    meant = {name for name in sites if config.targets(name, output=name == output)}
    if not meant:
        raise UnsupportedAdapter("target_modules", f"no linear layer of its base is meant; it has {_names(sites)}")
    if missing := sorted(meant - pairs.keys()):
        raise UnsupportedAdapter("target_modules", f"{missing[0]} is meant, and has no weights")
    if more := sorted(pairs.keys() - meant):
        raise UnsupportedAdapter("target_modules", f"{more[0]} has weights, and is not meant")


def _check_pair(name: str, pair: Pair, site: Site, rank: int) -> None:
    expected = {"A": (rank, site.inputs), "B": (site.outputs, rank)}
    for which, tensor in pair.items():
        key = f"{name}.lora_{which}"
        if tuple(tensor.shape) != expected[which]:
            shapes = f"expected shape {list(expected[which])} by its rank and its base, got {list(tensor.shape)}"
            raise UnsupportedAdapter(key[:128], shapes)
        if not (tensor.is_floating_point() and bool(tensor.isfinite().all())):
            raise UnsupportedAdapter(key[:128], "its values are not finite numbers")


def _names(sites: Mapping[str, Site], limit: int = 4) -> str:
    """A few of the layers' last names, for messages."""
    found = sorted({name.rpartition(".")[2] for name in sites})
    return ", ".join(found[:limit]) + (" ..." if len(found) > limit else "")
