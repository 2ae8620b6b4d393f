"""Makes what the tests fetch: a small checkpoint, wheels, and a random llama as GGUF."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save
from tokenizers.pre_tokenizers import ByteLevel

HIDDEN, HEADS, INNER, CONTEXT = 64, 2, 96, 128
CHAT_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
HUGE = 1e6  # out of float16's range


def checkpoint_files() -> dict[str, bytes]:
    """The smallest files that count as a checkpoint."""
    weights = save({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)})
    return {"config.json": json.dumps({"model_type": "llama"}).encode(), "model.safetensors": weights}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def make_wheel(
    folder: Path, files: Mapping[str, bytes], *, package: str = "tiny_weights", recorded: Mapping[str, bytes] = {}
) -> Path:
    """Write a wheel of version 1.0. `recorded` lies in RECORD about a file's content."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{package}-1.0.dist-info"
    everything = dict(files) | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [
        f"{name},sha256={_digest(recorded.get(name, content))},{len(content)}" for name, content in everything.items()
    ]
    wheel = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in everything.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return wheel


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a random llama of one layer with a byte-level tokenizer; return its tensors by GGUF name, dequantised."""
    rng = np.random.default_rng(0)
    tokens = SPECIAL + sorted(ByteLevel.alphabet()) + ["he", "ll"]
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, tokens)
    shapes = {"token_embd.weight": (len(tokens), HIDDEN), "output_norm.weight": (HIDDEN,)}
    for name, shape in {
        "attn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (HIDDEN, HIDDEN),
        "attn_v": (HIDDEN, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (INNER, HIDDEN),
        "ffn_up": (INNER, HIDDEN),
        "ffn_down": (HIDDEN, INNER),
    }.items():
        shapes[f"blk.0.{name}.weight"] = shape
    tensors: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        tensors[name] = _add(writer, name, rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def _describe(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    writer.add_block_count(1)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges(["h e", "l l"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add(writer: gguf.GGUFWriter, name: str, value: np.ndarray) -> np.ndarray:
    """Norms as float32 (one out of float16's range), matrices as Q8_0."""
    if value.ndim == 1:
        if name == "output_norm.weight":
            value[0] = HUGE
        writer.add_tensor(name, value)
        return value
    packed = gguf.quants.quantize(value, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    return gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
