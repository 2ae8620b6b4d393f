"""Owns what shape of transformer a checkpoint is, as its own configuration says, and the refusal of a wrong entry.

An entry of models.yaml says its `kind`, so that gateways know tasks without a file at hand; the checkpoint decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from services.nn.errors import UnsupportedModel

_NAMES = {
    "decoder": "a decoder-only language model",
    "encoder_decoder": "an encoder-decoder model",
    "masked": "an encoder for masked tokens",
    "embedding": "an encoder without a head",
}
# A head that an entry has no use for is left out: vectors of texts come from the layers below it.
_SERVED = {
    "decoder": {"decoder"},
    "encoder_decoder": {"encoder_decoder"},
    "masked": {"masked"},
    "embedding": {"embedding", "masked", "decoder"},
}


def read_config(folder: Path, kind: str, *, quantised: bool = False) -> PreTrainedConfig:
    """The checkpoint's configuration. Raises UnsupportedModel for a shape unlike `kind`, or for quantised weights where
    they are not taken."""
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise UnsupportedModel("an adapter", "it is no whole model; an entry of models.yaml has it by base and adapter")
    config = cast(PreTrainedConfig, AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
    name = architecture(config)
    found = detect(config)
    if found not in _SERVED[kind]:
        raise UnsupportedModel(name, f"it is {_NAMES[found]}; an entry of models.yaml serves it by 'kind: {found}'")
    if not quantised and getattr(config, "quantization_config", None) is not None:
        raise UnsupportedModel(name, "its weights are quantised; convert them to plain safetensors first")
    return config


def detect(config: PreTrainedConfig) -> str:
    """The kind of a configuration, by the class that its weights were saved from: `architectures`."""
    name = architecture(config)
    if config.is_encoder_decoder and name in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values():
        return "encoder_decoder"
    if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        return "decoder"
    if name in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values():
        return "masked"
    if name == type(config).__name__:  # no architecture is named
        return "encoder_decoder" if config.is_encoder_decoder else "decoder"
    return "embedding"


def architecture(config: PreTrainedConfig) -> str:
    """The class that the weights were saved from, else that of the configuration."""
    return next(iter(getattr(config, "architectures", None) or []), type(config).__name__)
