"""Owns the conversion of a GGUF file from the outside: starts the process that does it. Never imports torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.sources.errors import ConversionFailed
from services.sources.process import ChildFailed, run_child
from services.sources.progress import Progress

_SCRIPT = Path(__file__).with_name("convert.py")
_STAGES = frozenset({"reading the tokenizer", "dequantising the weights", "writing safetensors"})


def convert(gguf: Path, into: Path, progress: Progress) -> None:
    """Write config.json, model.safetensors, tokenizer and chat template into the folder. Raises ConversionFailed."""

    def on_line(line: str) -> None:
        if line in _STAGES:
            progress(f"converting: {line}", 0, None)

    progress("converting", 0, None)
    # -P: the script's folder holds modules of ours whose names would otherwise shadow installed packages.
    command = [sys.executable, "-P", str(_SCRIPT), str(gguf), str(into)]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    try:
        run_child(command, on_line, env=os.environ | offline)
    except ChildFailed as error:
        raise ConversionFailed(f"{gguf.name} could not be converted to safetensors:\n{error.tail}") from error
