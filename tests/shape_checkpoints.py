"""Tiny random checkpoints of shapes that are no plain decoder: encoder-decoders, encoders, dialogues."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
)

from tests.checkpoints import CORPUS, END, make_tokenizer

PAD, EOS, BOS, MASK, UNK = range(5)  # ids, in the tokenizers below
NAMES = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "mask_token": "<mask>", "unk_token": "<unk>"}
CONTEXT = 96
EMBEDDINGS = 352  # padded beyond the tokenizer
PURPOSES = {
    "translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 4},
    "summarization": {"prefix": "summarize: ", "num_beams": 4},
}


def pair_tokenizer(*, begins: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE that ends each text with `</s>`, and begins it with `<s>` if told to."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    mask = AddedToken("<mask>", special=True, lstrip=True)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[mask if name == "<mask>" else name for name in NAMES.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    single = "<s> $A </s>" if begins else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{**NAMES, "mask_token": mask})


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece as BERT's, of lower case. Its file asks for texts to be cut and padded, as real ones do."""
    specials = ["[PAD]", "[SEP]", "[CLS]", "[MASK]", "[UNK]"]
    # Written out, for a trained one is not the same each time.
    signs = [*"abcdefghijklmnopqrstuvwxyz0123456789.,?!:[]<>/'"]
    words = sorted({word for text in CORPUS[:3] for word in re.findall(r"[a-z]{2,}", text.lower())})
    pieces = [*specials, *signs, *(f"##{sign}" for sign in signs), "##al", "##ing", *words]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", BOS), ("[SEP]", EOS)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        sep_token="[SEP]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        unk_token="[UNK]",
    )


_IDS = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": BOS}
_BART_SHAPE = {
    "vocab_size": EMBEDDINGS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": CONTEXT,
    "init_std": 0.5,
    **_IDS,
}


def _t5(**changes: Any) -> PreTrainedConfig:
    shape = {
        "vocab_size": EMBEDDINGS,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "initializer_factor": 3.0,
        "decoder_start_token_id": PAD,
        "task_specific_params": PURPOSES,
        **_IDS,
    }
    return T5Config(**{**shape, **changes})


def _bart(**changes: Any) -> PreTrainedConfig:
    return BartConfig(**{**_BART_SHAPE, "decoder_start_token_id": EOS, "scale_embedding": False, **changes})


def _marian(**changes: Any) -> PreTrainedConfig:
    return MarianConfig(**{**_BART_SHAPE, "decoder_start_token_id": PAD, "scale_embedding": True, **changes})


PAIRS: Mapping[str, Callable[..., PreTrainedConfig]] = {"t5": _t5, "bart": _bart, "marian": _marian}
# What the checkpoints of these names say of their targets: bart-large-cnn's and opus-mt's.
GENERATION: Mapping[str, dict[str, Any]] = {
    "t5": {"decoder_start_token_id": PAD},
    "bart": {
        "decoder_start_token_id": EOS,
        "forced_bos_token_id": BOS,
        "forced_eos_token_id": EOS,
        "no_repeat_ngram_size": 3,
        "min_length": 6,
    },
    "marian": {"decoder_start_token_id": PAD, "forced_eos_token_id": EOS, "bad_words_ids": [[PAD]]},
}


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _sharpen(model: PreTrainedModel) -> None:
    """Give distances a say: in a fresh T5 attention is all but decided without them. And tell tokens apart."""
    for module in model.modules():
        for name, child in module.named_children():
            if name == "relative_attention_bias":
                torch.nn.init.normal_(child.weight, std=3.0)
            if name in ("q", "k"):
                torch.nn.init.normal_(child.weight, std=0.1)


def make_pair(architecture: str, folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """An encoder-decoder's files in `folder`, which is returned."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSeq2SeqLM.from_config(PAIRS[architecture](**changes))
        if architecture == "t5":
            _sharpen(model)
    model.generation_config = GenerationConfig(**_IDS, **GENERATION[architecture])
    return _save(model, pair_tokenizer(begins=architecture == "bart"), folder)


def _bert_shape(length: int) -> dict[str, Any]:
    return {
        "vocab_size": EMBEDDINGS,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": length,
        "initializer_range": 0.3,
        "pad_token_id": PAD,
    }


def make_masked(architecture: str, folder: Path, *, seed: int = 0) -> Path:
    """An encoder with a head for masked tokens: `bert` of words in lower case, `roberta` of bytes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "bert":
            return _save(BertForMaskedLM(BertConfig(**_bert_shape(CONTEXT))), word_tokenizer(), folder)
        shape = {**_bert_shape(CONTEXT + PAD + 1), **_IDS}
        return _save(RobertaForMaskedLM(RobertaConfig(**shape)), pair_tokenizer(begins=True), folder)


def make_embedder(
    folder: Path, *, pooling: str | None = "mean", normalize: bool = True, length: int = 64, seed: int = 0
) -> Path:
    """A BERT without a head; `pooling` None leaves the files of sentence-transformers out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _save(BertModel(BertConfig(**_bert_shape(CONTEXT))), word_tokenizer(), folder)
    if pooling is None:
        return folder
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    modes = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "last": "lasttoken"}
    config = {f"pooling_mode_{mode}": name == pooling for name, mode in modes.items()}
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **config}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length, "do_lower_case": False}))
    return folder


def make_dialogue(folder: Path, *, seed: int = 0, says_so: bool = True) -> Path:
    """A GPT-2 as DialoGPT is: no chat template, and one token that begins and ends everything."""
    tokenizer = make_tokenizer(chat=False)
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = END
    end = tokenizer.eos_token_id
    purposes = {"task_specific_params": {"conversational": {"max_length": 1000}}} if says_so else {}
    config = GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        vocab_size=448,
        initializer_range=0.3,
        bos_token_id=end,
        eos_token_id=end,
        **purposes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _save(GPT2LMHeadModel(config), tokenizer, folder)
