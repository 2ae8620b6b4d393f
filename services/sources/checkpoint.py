"""Owns what a folder of weights may hold: safetensors or voices, no pickle, no remote code. Never reads a tensor.

A voice is an ONNX graph, NAME.onnx, with its configuration beside it, NAME.onnx.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Set
from pathlib import Path, PurePosixPath
from typing import cast

from services.sources.errors import SourceNotFound, UnsafeSource
from services.sources.manifest import file_names

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
INDEX = "model_index.json"  # of a diffusers checkpoint: which part is of which class; each part has its own folder
ADAPTER = "adapter_config.json"  # of what changes a model: peft's
_CONFIGS = ("config.json", INDEX, ADAPTER)
_LIBRARIES = frozenset({"diffusers", "transformers"})
_NEVER_LOADED = frozenset({"safety_checker", "text_encoder_3", "tokenizer_3"})  # parts that nothing here reads
_GRAPH = ".onnx"
_HALF = re.compile(r"\.fp16(?=[.-])")  # a second copy of the weights
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


def wanted(name: str) -> bool:
    """Whether a file that is no voice is fetched: weights as safetensors, configuration, tokenizer, licence."""
    base = PurePosixPath(name).name
    return any(PurePosixPath(base).match(pattern) for pattern in WANTED)


def needed(names: Iterable[str], parts: Set[str] | None) -> list[str]:
    """Of a checkpoint's files, those to fetch: what is `wanted`, and not twice in two precisions.

    `parts` are those of its model_index.json, None if it has none: of other folders, and of weights beside the index,
    nothing is read. A graph that is no voice is a copy of the weights for another program.
    """
    every = list(names)
    voices = voices_of(every)
    chosen = [name for name in every if wanted(name) or name in voices]
    listed = [name for name in chosen if parts is None or _is_read(PurePosixPath(name), parts)]
    full = {_SHARD.sub("", name) for name in listed if not _HALF.search(name)}
    return [name for name in listed if not _HALF.search(name) or _SHARD.sub("", _HALF.sub("", name)) not in full]


def voices_of(names: Iterable[str]) -> set[str]:
    """Those graphs that have their configuration beside them."""
    every = set(names)
    return {name for name in every if name.endswith(_GRAPH) and f"{name}.json" in every}


def _is_read(path: PurePosixPath, parts: Set[str]) -> bool:
    return path.parts[0] in parts if len(path.parts) > 1 else path.suffix != ".safetensors"


def check_names(names: Iterable[str], where: str, parts: Set[str] | None) -> None:
    """Refuse a set of files that cannot be a safe checkpoint. Raises UnsafeSource or SourceNotFound.

    `parts` as in `needed`: each of them is checked, and what is never read is not.
    """
    listed = list(names)
    read = [name for name in listed if parts is None or _is_read(PurePosixPath(name), parts)]
    if parts is None and voices_of(read):
        return
    suffixes = {PurePosixPath(name).suffix for name in read}
    if ".safetensors" not in suffixes:
        _refuse_pickles(suffixes, where)
        raise SourceNotFound(f"{where} has no *.safetensors file, and no *{_GRAPH} with *{_GRAPH}.json beside it")
    if not any(config in listed for config in _CONFIGS):
        raise SourceNotFound(f"{where} has no {', '.join(_CONFIGS[:-1])} or {_CONFIGS[-1]}")
    for part in sorted(parts or ()):
        inside = {PurePosixPath(name).suffix for name in read if PurePosixPath(name).parts[0] == part}
        if ".safetensors" not in inside:
            _refuse_pickles(inside, f"{where}/{part}")


def _refuse_pickles(suffixes: set[str], where: str) -> None:
    if pickled := suffixes & _PICKLES:
        raise UnsafeSource(
            f"{where} has weights only as pickle ({', '.join(sorted(pickled))}), which can run any code when it is"
            " loaded; convert them to safetensors first"
        )


def check_folder(folder: Path) -> None:
    """Check the names, and that no configuration asks for code of its own (`auto_map`, or another library's parts).

    Raises UnsafeSource, SourceNotFound, and IntegrityError as `file_names` does.
    """
    names = file_names(folder)
    parts = parts_of((folder / INDEX).read_bytes(), str(folder)) if INDEX in names else None
    check_names(names, str(folder), parts)
    for path in sorted(folder.rglob("*config.json")):
        if "auto_map" in _json_object(path.read_bytes(), str(path)):
            raise UnsafeSource(f"{path} asks for remote code (auto_map), which is never run here")


def parts_of(index: bytes, where: str) -> frozenset[str]:
    """The parts that a model_index.json names, each a folder's name, but those that nothing here reads.

    Every part is a class of diffusers or transformers: anything else is a module that comes with the checkpoint.
    Raises UnsafeSource.
    """
    found: set[str] = set()
    for part, named in _json_object(index, f"{where}/{INDEX}").items():
        if part == "_class_name" and not isinstance(named, str):
            raise UnsafeSource(f"{where} asks for remote code (_class_name), which is never run here")
        if isinstance(named, list) and not part.startswith("_") and part not in _NEVER_LOADED:
            library = next(iter(cast("list[object]", named)), None)
            if library is None:
                continue  # a part that this checkpoint is without
            if library not in _LIBRARIES:
                raise UnsafeSource(f"{where} asks for code of {library!r} ({part}), which is never run here")
            found.add(part)
    return frozenset(found)


def _json_object(text: bytes, where: str) -> dict[str, object]:
    """The file's object; empty for any other JSON. Raises UnsafeSource for what is no JSON."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UnsafeSource(f"{where} is not JSON: {error}") from error
    return cast("dict[str, object]", content) if isinstance(content, dict) else {}
