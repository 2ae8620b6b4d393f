"""Adapters of tiny checkpoints, made and run by peft itself: its files, its layers, its greedy answers.

peft is imported where it is used: what makes fleets for tests imports this, also in environments without it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def make_adapter(base: Path, folder: Path, *, seed: int = 1, **config: Any) -> Path:
    """Write a LoRA adapter with random matrices, none of them zero, for the checkpoint; return its folder."""
    from peft import LoraConfig, get_peft_model

    options = {"r": 4, "lora_alpha": 8, "init_lora_weights": False, "task_type": "CAUSAL_LM", **config}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        get_peft_model(model, LoraConfig(**options)).save_pretrained(folder, save_embedding_layers=False)
    return folder


def peft_model(base: Path, folder: Path) -> Any:
    """The checkpoint with the adapter, as peft runs it."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, folder).eval()


def peft_answers(base: Path, folder: Path, prompts: Sequence[Sequence[int]], new: int) -> list[list[int]]:
    """`new` greedy tokens after each prompt, end tokens or not."""
    model, answers = peft_model(base, folder), list[list[int]]()
    options = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        answers.append([int(token) for token in out[0, len(prompt) :]])
    return answers


def change_config(folder: Path, **fields: Any) -> None:
    """Overwrite fields of adapter_config.json."""
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change_weights(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Put tensors among the adapter's, by their keys; None takes one out."""
    held = {**load_file(folder / WEIGHTS), **tensors}
    save_file({key: tensor for key, tensor in held.items() if tensor is not None}, folder / WEIGHTS)
