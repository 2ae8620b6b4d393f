"""Owns the files of a model that is trained here: config.json, and model.safetensors in half precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save
from torch import nn

from services.nn.errors import UnsupportedModel

CONFIG, WEIGHTS = "config.json", "model.safetensors"
DTYPES = {  # by `dtype` of models.yaml
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

ConfigT = TypeVar("ConfigT", bound=BaseModel)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class ModelShape(BaseModel):
    """Base of what config.json holds. A `model_type` of one value tells one kind of model from another."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_shape(kind: type[ConfigT], folder: Path) -> ConfigT:
    """Raises UnsupportedModel for another kind of model's configuration."""
    try:
        return kind.model_validate_json((folder / CONFIG).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise UnsupportedModel("the model", f"in its {CONFIG}, {place}: {first['msg']}") from error


def save_model(module: nn.Module, shape: BaseModel, folder: Path) -> None:
    """Write both files. Tensors of numbers are halved; others, such as indices, stay as they are."""
    weights = {
        name: (value.detach().half() if value.is_floating_point() else value.detach()).contiguous()
        for name, value in module.state_dict().items()
    }
    (folder / WEIGHTS).write_bytes(save(weights))  # not save_file: that makes a file for its owner alone
    (folder / CONFIG).write_text(json.dumps(shape.model_dump(mode="json"), indent=1) + "\n")


def load_model(
    make: Callable[[ConfigT], ModuleT],
    kind: type[ConfigT],
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> ModuleT:
    """The module of a folder that `save_model` wrote, in evaluation mode and without gradients.

    `make` must give every buffer that it computes to `register_buffer(..., persistent=True)`: it runs on the meta
    device. Raises UnsupportedModel for another kind of model, and for weights of another shape than config.json says.
    """
    with torch.device("meta"):
        module = make(read_shape(kind, folder))
    weights = {
        name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
        for name, value in load_file(folder / WEIGHTS).items()
    }
    try:
        module.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise UnsupportedModel("the model", f"its weights do not fit its {CONFIG}: {error}") from error
    use_channels_last(module)
    return module.eval().requires_grad_(False)


def use_channels_last(module: nn.Module) -> None:
    """Lay the convolutions' weights out as channels_last, in place: what CPUs and tensor cores compute fastest."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
