"""Owns what a folder of weights may hold: safetensors, no pickle, no remote code. Never reads a tensor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import cast

from services.sources.errors import SourceNotFound, UnsafeSource

WANTED = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "*.tiktoken",
    "LICENSE*",
)
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_CONFIGS = ("config.json", "model_index.json")


def wanted(name: str) -> bool:
    """Whether a file is fetched at all: weights as safetensors, configuration, tokenizer, licence."""
    base = PurePosixPath(name).name
    return any(PurePosixPath(base).match(pattern) for pattern in WANTED)


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse a set of files that cannot be a safe checkpoint. Raises UnsafeSource or SourceNotFound."""
    listed = list(names)
    suffixes = {PurePosixPath(name).suffix for name in listed}
    if ".safetensors" not in suffixes:
        if pickled := suffixes & _PICKLES:
            raise UnsafeSource(
                f"{where} has weights only as pickle ({', '.join(sorted(pickled))}), which can run any code when it is"
                " loaded; convert them to safetensors first"
            )
        raise SourceNotFound(f"{where} has no *.safetensors file")
    if not any(config in listed for config in _CONFIGS):
        raise SourceNotFound(f"{where} has no {' or '.join(_CONFIGS)}")


def check_folder(folder: Path) -> None:
    """Check the names, and that no configuration asks for code of its own (`auto_map`)."""
    check_names((path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()), str(folder))
    for path in sorted(folder.rglob("*config.json")):
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise UnsafeSource(f"{path} is not JSON: {error}") from error
        if isinstance(content, dict) and "auto_map" in cast(dict[str, object], content):
            raise UnsafeSource(f"{path} asks for remote code (auto_map), which is never run here")
