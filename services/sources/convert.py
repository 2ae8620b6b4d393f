"""Owns one conversion, as a process of its own: a GGUF file in, a folder of safetensors out. Run as a script.

It is a script that imports nothing of this tree, so that the gigabytes that dequantising takes go back with the
process. It ends when its parent does: standard input closes then.

Weights are stored as float16: the scales of GGUF's block formats are float16 themselves, and rounding their product to
11 bits changes a weight by 2e-4 of its tensor's RMS, some hundred times less than the 4-bit quantisation did (bfloat16:
1.4e-3). A tensor that float16 cannot hold that well (range, or values that were float32 to begin with) stays float32.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

MAX_ERROR = 2.0**-11  # relative RMS; rounding to nearest gives about 2e-4 where no value is out of range


def main(source: Path, target: Path) -> None:
    """Convert `source` (.gguf, weights and tokenizer) into `target`, ready for `from_pretrained`."""
    print("reading the tokenizer", flush=True)  # noqa: T201 - lines on stdout are the protocol with the parent
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    print("dequantising the weights", flush=True)  # noqa: T201
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(
            dequantize=True
        ),  # plain weights, and no quantization_config left in config.json
        dtype=torch.float32,
    )
    print("writing safetensors", flush=True)  # noqa: T201
    for parameter in model.parameters():
        parameter.data = narrowed(parameter.data)
    model.config.dtype = torch.float16
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def narrowed(weight: torch.Tensor) -> torch.Tensor:
    """The tensor in float16, or as it is where that would lose more than MAX_ERROR of its RMS."""
    half = weight.to(torch.float16)
    error = (weight - half.float()).square().mean().sqrt()
    close = error <= MAX_ERROR * weight.square().mean().sqrt()  # false for infinities, which make the error NaN or inf
    return half if bool(close) else weight


def end_with_parent() -> None:
    while os.read(0, 1):  # unbuffered: a buffered reader's lock would outlive this thread at shutdown
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
