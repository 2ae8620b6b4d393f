"""Owns adapter_config.json as peft writes it: what of it is followed, what says nothing of the result, what is refused.

A field that is not known here must say nothing (null, false, empty): what changes a result is never overlooked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from services.nn.errors import UnsupportedModel

CONFIG = "adapter_config.json"
MOST_RANK = 512
ALL_LINEAR = "all-linear"
# What peft writes of how an adapter was trained, or of where its base was: nothing that its weights compute.
_SILENT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "inference_mode",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)
# Initialisations that leave the base's weights as they are; the others (PiSSA, OLoRA ...) count on changed ones.
_INITIAL = frozenset({"gaussian", "eva", "orthogonal"})


class UnsupportedAdapter(UnsupportedModel):
    """The adapter cannot be served. `field` of its files says why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__("the adapter", f"{field}: {reason}")
        self.field = field


class LoraConfig(BaseModel):
    """The fields that are followed, as peft's `LoraConfig` means them; everything else is in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    task_type: str | None = None
    r: int = Field(default=8, ge=1)
    lora_alpha: FiniteFloat = 8
    use_rslora: bool = False
    target_modules: str | list[str]
    exclude_modules: str | list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, FiniteFloat] | None = None
    fan_in_fan_out: bool = False  # how the base stores its weights; of a Conv1D the layer itself says so
    bias: str = "none"
    init_lora_weights: bool | str | None = True

    def targets(self, name: str, *, output: bool) -> bool:
        """Whether the linear layer of this name is changed; `output`: it makes the logits."""
        if self.exclude_modules and _names(self.exclude_modules, name, "exclude_modules"):
            return False
        if isinstance(self.target_modules, str) and self.target_modules.lower() == ALL_LINEAR:
            return not output
        if not _names(self.target_modules, name, "target_modules"):
            return False
        chosen = self.layers_to_transform
        if chosen is None or chosen == [] or isinstance(self.target_modules, str):
            return True
        return self._layer(name) in (chosen if isinstance(chosen, list) else [chosen])

    def _layer(self, name: str) -> int | None:
        """The number of the layer that a module is in: the first in its name, or what follows `layers_pattern`."""
        patterns = self.layers_pattern or [r"[^.]*"]
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            found = _match(rf"(?:.*?\.)?(?:{pattern})\.(\d+)\..*", name, "layers_pattern")
            if found is not None:
                return int(found[1])
        return None

    def rank(self, name: str) -> int:
        return _of(self.rank_pattern, name, "rank_pattern", self.r)

    def scaling(self, name: str) -> float:
        """alpha / r, or alpha / sqrt(r) with use_rslora (Kalajdzievski 2023, arXiv:2312.03732)."""
        rank, alpha = self.rank(name), _of(self.alpha_pattern, name, "alpha_pattern", self.lora_alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_lora_config(folder: Path) -> LoraConfig:
    """Raises UnsupportedAdapter that names the field."""
    try:
        config = LoraConfig.model_validate_json((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise UnsupportedAdapter(CONFIG, "the folder has none, so it holds no adapter") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UnsupportedAdapter(".".join(map(str, first["loc"])) or CONFIG, first["msg"]) from None
    if config.peft_type != "LORA":
        raise UnsupportedAdapter("peft_type", f"only LORA is served, got {config.peft_type[:64]}")
    if config.task_type not in (None, "CAUSAL_LM"):
        raise UnsupportedAdapter("task_type", f"only CAUSAL_LM is served, got {config.task_type[:64]}")
    if config.bias != "none":
        raise UnsupportedAdapter("bias", f"only none is served, got {config.bias[:64]}")
    if isinstance(config.init_lora_weights, str) and config.init_lora_weights not in _INITIAL:
        reason = f"{config.init_lora_weights[:64]} changes the base; save it converted to a plain LoRA"
        raise UnsupportedAdapter("init_lora_weights", reason)
    _check_ranks(config.r, config.rank_pattern or {})
    _check_extra(config.model_extra or {})
    return config


def _check_ranks(rank: int, pattern: Mapping[str, int]) -> None:
    if rank > MOST_RANK:
        raise UnsupportedAdapter("r", f"the rank is at most {MOST_RANK}, got {rank}")
    for key, value in pattern.items():
        if not 1 <= value <= MOST_RANK:
            raise UnsupportedAdapter("rank_pattern", f"ranks are 1 to {MOST_RANK}, got {value} for {key[:64]}")


def _check_extra(extra: Mapping[str, Any]) -> None:
    for field, value in extra.items():
        if field not in _SILENT and value not in (None, False, [], {}, ""):
            raise UnsupportedAdapter(field[:64], "not served: an adapter is matrices of linear layers alone")


def _names(modules: str | Iterable[str], name: str, field: str) -> bool:
    """Whether a regular expression, or a list of names or of their ends, is about the module."""
    if isinstance(modules, str):
        return _match(modules, name, field) is not None
    return any(name == each or name.endswith(f".{each}") for each in modules)


def _of(pattern: Mapping[str, Any] | None, name: str, field: str, default: Any) -> Any:
    """The value of the first key that the module's name ends with, a regular expression or a name."""
    for key, value in (pattern or {}).items():
        if _match(rf"(.*\.)?({key})", name, field) is not None:
            return value
    return default


def _match(pattern: str, name: str, field: str) -> re.Match[str] | None:
    try:
        return re.fullmatch(pattern, name)
    except (re.error, OverflowError, RecursionError) as error:
        raise UnsupportedAdapter(field, f"no regular expression: {error}") from None
