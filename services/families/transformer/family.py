"""Owns the family's entry: a checkpoint folder becomes a loaded model of the shape that its entry says."""

from __future__ import annotations

from pathlib import Path

from services.families import LoadedModel
from services.families.transformer.decoder import load_decoder
from services.families.transformer.encoder.family import load_embedding, load_masked
from services.families.transformer.encoder_decoder.family import load_encoder_decoder
from services.families.transformer.vllm.family import load_vllm
from shared.config.transformer import (
    AnyTransformer,
    EmbeddingModel,
    EncoderDecoderModel,
    MaskedModel,
    TransformerModel,
    VllmModel,
)


def load(config: AnyTransformer, folder: Path) -> LoadedModel:
    """Load config.json, *.safetensors and tokenizer files, already verified.

    Raises UnsupportedModel for a checkpoint of another shape, or that this family cannot run; DeviceFailure if the
    device fails.
    """
    match config:
        case TransformerModel():
            return load_decoder(config, folder)
        case VllmModel():
            return load_vllm(config, folder)
        case EncoderDecoderModel():
            return load_encoder_decoder(config, folder)
        case MaskedModel():
            return load_masked(config, folder)
        case EmbeddingModel():
            return load_embedding(config, folder)
