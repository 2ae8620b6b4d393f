"""Owns how vectors of tokens become one of their text, as a checkpoint's sentence-transformers files say.

modules.json lists the steps; each has a folder with its own config.json. They are read as data: nothing is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from services.nn.errors import UnsupportedModel
from services.sources.source import is_safe_member

How = Literal["mean", "cls", "max", "last"]
_MODES: Mapping[str, How] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_NAMES: Mapping[str, How] = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """`length` is the longest text in tokens that the files name; `prefix` is what every text begins with."""

    how: How = "mean"
    normalize: bool = False
    length: int | None = None
    lower: bool = False
    prefix: str = ""


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a folder; the mean, as it is, where it has no modules.json. Raises UnsupportedModel."""
    if not (folder / "modules.json").is_file():
        return Recipe()
    how: How = "mean"
    normalize = False
    for module in json.loads((folder / "modules.json").read_text()):
        kind, place = str(module["type"]).rpartition(".")[2], str(module["path"])
        if place and not is_safe_member(place):
            raise UnsupportedModel("the model", f"its modules.json names a path outside of its folder: '{place}'")
        match kind:
            case "Transformer":
                pass
            case "Pooling":
                how = _pooling(_read(folder / place / "config.json"))
            case "Normalize":
                normalize = True
            case _:
                raise UnsupportedModel("the model", f"its modules.json has a step of kind '{kind}', which is not known")
    shape = _read(folder / "sentence_bert_config.json")
    more = _read(folder / "config_sentence_transformers.json")
    prompts: dict[str, str] = more.get("prompts") or {}
    prefix = prompts.get(more.get("default_prompt_name") or "", "")
    return Recipe(how, normalize, shape.get("max_seq_length"), bool(shape.get("do_lower_case")), prefix)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _pooling(config: Mapping[str, Any]) -> How:
    named = config.get("pooling_mode")
    wanted = [named] if isinstance(named, str) else [key for key, value in config.items() if value is True]
    known: dict[str, How] = {**_NAMES, **_MODES}
    found = [known.get(name) for name in wanted if name != "include_prompt"]
    match found:
        case ["mean" | "cls" | "max" | "last" as how]:
            return how
        case _:
            pass
    raise UnsupportedModel("the model", f"its pooling is none of {', '.join(_NAMES)}, but {', '.join(wanted)}")


def pool(states: Tensor, valid: Tensor, how: How) -> Tensor:
    """states (R, T, D) of tokens, of which `valid` (R, T) are the texts' own -> (R, D) float32."""
    states = states.float()
    match how:
        case "cls":
            return states[:, 0]
        case "last":
            return states[torch.arange(len(states), device=states.device), valid.sum(1) - 1]
        case "max":
            return states.masked_fill(~valid[:, :, None], -torch.inf).amax(1)
        case "mean":
            weights = valid[:, :, None].float()
            return (states * weights).sum(1) / weights.sum(1)


def cut(vector: Tensor, dimensions: int, *, normalize: bool) -> Tensor:
    """The first `dimensions` of a vector (D,), at length 1 if it is to be (Matryoshka: arXiv:2205.13147)."""
    short = vector[:dimensions]
    return torch.nn.functional.normalize(short, dim=0) if normalize else short
