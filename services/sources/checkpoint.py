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
_INDEX = "model_index.json"  # of a diffusers checkpoint: which part is of which class; each part has its own folder
_CONFIGS = ("config.json", _INDEX)
_LIBRARIES = frozenset({"diffusers", "transformers"})
_NEVER_LOADED = frozenset({"safety_checker"})  # parts that nothing here reads


def wanted(name: str) -> bool:
    """Whether a file is fetched at all: weights as safetensors, configuration, tokenizer, licence."""
    base = PurePosixPath(name).name
    return any(PurePosixPath(base).match(pattern) for pattern in WANTED)


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse a set of files that cannot be a safe checkpoint. Raises UnsafeSource or SourceNotFound."""
    listed = list(names)
    suffixes = {PurePosixPath(name).suffix for name in listed}
    if ".safetensors" not in suffixes:
        _refuse_pickles(suffixes, where)
        raise SourceNotFound(f"{where} has no *.safetensors file")
    if not any(config in listed for config in _CONFIGS):
        raise SourceNotFound(f"{where} has no {' or '.join(_CONFIGS)}")
    if _INDEX in listed:
        for part in sorted({PurePosixPath(name).parent for name in listed} - {PurePosixPath(p) for p in _NEVER_LOADED}):
            inside = {PurePosixPath(name).suffix for name in listed if PurePosixPath(name).parent == part}
            if ".safetensors" not in inside:
                _refuse_pickles(inside, f"{where}/{part}")


def _refuse_pickles(suffixes: set[str], where: str) -> None:
    if pickled := suffixes & _PICKLES:
        raise UnsafeSource(
            f"{where} has weights only as pickle ({', '.join(sorted(pickled))}), which can run any code when it is"
            " loaded; convert them to safetensors first"
        )


def check_folder(folder: Path) -> None:
    """Check the names, and that no configuration asks for code of its own (`auto_map`, or another library's parts)."""
    check_names((path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()), str(folder))
    for path in sorted(folder.rglob("*config.json")):
        if "auto_map" in _json_object(path):
            raise UnsafeSource(f"{path} asks for remote code (auto_map), which is never run here")
    if (folder / _INDEX).is_file():
        _check_index(folder / _INDEX)


def _check_index(path: Path) -> None:
    """Every part is a class of diffusers or transformers: anything else is a module that comes with the checkpoint."""
    for part, named in _json_object(path).items():
        if part == "_class_name" and not isinstance(named, str):
            raise UnsafeSource(f"{path} asks for remote code (_class_name), which is never run here")
        if isinstance(named, list) and not part.startswith("_") and part not in _NEVER_LOADED:
            library = next(iter(cast("list[object]", named)), None)
            if library is not None and library not in _LIBRARIES:
                raise UnsafeSource(f"{path} asks for code of {library!r} ({part}), which is never run here")


def _json_object(path: Path) -> dict[str, object]:
    """The file's object; empty for any other JSON. Raises UnsafeSource for what is no JSON."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UnsafeSource(f"{path} is not JSON: {error}") from error
    return cast("dict[str, object]", content) if isinstance(content, dict) else {}
