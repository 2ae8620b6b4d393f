"""Tiny random checkpoints of real architectures, with a real tokenizer, made in a second: same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTEXT = 256
EMBEDDINGS = 512  # padded beyond the tokenizer, as real checkpoints are
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = (
    "The spring on Parnassus gives water to whoever climbs up to it, and the poets drank and sang.",
    "What is the capital of France? The capital of France is Paris, and the capital of Greece is Athens.",
    "A model reads the prompt piece by piece, then writes one token after another until it ends.",
    "Grüße aus Köln, naïve café, Ελικών, 山の泉, 🙂🙃 and numbers 0 1 2 3 4 5 6 7 8 9.",
    "def add(a, b):\n    return a + b\n\nsystem user assistant\n",
)


def make_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE of some 400 tokens; `<|im_end|>` ends an answer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[END, TURN, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=TURN, eos_token=TURN_END, pad_token=TURN_END, unk_token=END
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def _rotary(config: Callable[..., PreTrainedConfig]) -> Callable[..., PreTrainedConfig]:
    """A Llama-like configuration with grouped queries."""

    def make(*, context: int, vocabulary: int, **changes: Any) -> PreTrainedConfig:
        shape = {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": context,
            "vocab_size": vocabulary,
        }
        return config(**{**shape, **changes})

    return make


def _gpt2(*, context: int, vocabulary: int, **changes: Any) -> PreTrainedConfig:
    shape = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": context, "vocab_size": vocabulary}
    return GPT2Config(**{**shape, **changes})


def _gptj(*, context: int, vocabulary: int, **changes: Any) -> PreTrainedConfig:
    """Its attention is its own, and no kernel of the library's interface."""
    shape = {"n_embd": 64, "n_layer": 3, "n_head": 4, "rotary_dim": 8, "n_positions": context, "vocab_size": vocabulary}
    return GPTJConfig(**{**shape, **changes})


CONFIGS: Mapping[str, Callable[..., PreTrainedConfig]] = {
    "gpt2": _gpt2,
    "gptj": _gptj,
    "llama": _rotary(LlamaConfig),
    "qwen2": _rotary(Qwen2Config),
    "mistral": _rotary(MistralConfig),
    "gemma": _rotary(GemmaConfig),
}
ARCHITECTURES = tuple(CONFIGS)


def make_checkpoint(
    architecture: str,
    folder: Path,
    *,
    context: int = CONTEXT,
    embeddings: int = EMBEDDINGS,
    chat: bool = True,
    template: str | None = None,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write config.json, model.safetensors and the tokenizer's files into `folder`; return it.

    `template` stands in for the chat template, `changes` go to the architecture's configuration, as `n_layer=6` or
    `sliding_window=32`.
    """
    tokenizer = make_tokenizer(chat=chat)
    tokenizer.chat_template = template or tokenizer.chat_template
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    # A wide initialisation makes the logits differ clearly, so that rounding decides no choice of a token.
    spread = {"initializer_range": 0.3, "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": True}
    config = CONFIGS[architecture](context=context, vocabulary=embeddings, **{**spread, **ids, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
