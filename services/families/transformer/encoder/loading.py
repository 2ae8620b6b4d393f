"""Owns the way from a checkpoint folder to an encoder, with or without its head for masked tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from services.families.transformer.shape import architecture
from services.nn.errors import UnsupportedModel

_POSITIONS = "position_embeddings"  # the table's name in BERT and its kin


class Encoder(NamedTuple):
    """`length` is the longest text in tokens, None where the model sets no end; `pad` fills short ones."""

    model: PreTrainedModel
    length: int | None
    pad: int

    def run(self, texts: Sequence[Sequence[int]]) -> tuple[Any, Tensor]:
        """The model's output for texts of T tokens at most, and which tokens are theirs: (R, T) bool."""
        device = self.model.device
        width = max(map(len, texts))
        ids = torch.full((len(texts), width), self.pad, device=device)
        for i, text in enumerate(texts):
            ids[i, : len(text)] = torch.tensor(list(text), device=device)
        lengths = torch.tensor([len(text) for text in texts], device=device)
        valid = torch.arange(width, device=device) < lengths[:, None]
        run: Any = self.model
        return run(input_ids=ids, attention_mask=valid.long()), valid


def load_encoder(
    folder: Path, config: PreTrainedConfig, *, with_head: bool, dtype: torch.dtype, device: torch.device
) -> Encoder:
    """From local safetensors alone, in evaluation mode. Raises UnsupportedModel if it does not read a short text."""
    kind: Any = AutoModelForMaskedLM if with_head else AutoModel
    model = kind.from_pretrained(
        folder, config=config, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    model = cast(PreTrainedModel, cast(nn.Module, model).to(device).eval())
    model.requires_grad_(False)
    pad = config.pad_token_id
    encoder = Encoder(model, _length(model, config), 0 if pad is None else pad)
    try:
        with torch.inference_mode():
            output, _ = encoder.run([[1, 2, 3], [1]])
        _ = output.logits if with_head else output.last_hidden_state
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise UnsupportedModel(architecture(config), f"it does not run as an encoder of texts: {error}") from error
    return encoder


def _length(model: nn.Module, config: PreTrainedConfig) -> int | None:
    """The places of the table of positions; those up to the padding's are never used (RoBERTa)."""
    for name, module in model.named_modules():
        if name.endswith(_POSITIONS) and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    longest = getattr(config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) else None
