"""Owns manifest.json: which files a model's folder holds, with sizes and SHA-256 sums. Never reads a tensor.

A flipped bit in a safetensors file loads silently and answers nonsense, so every load checks every byte
(about a second for 1.5 GB on a core with SHA extensions).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.sources.errors import FileChanged, IntegrityError, ManifestMissing, SourceNotFound
from services.sources.progress import Progress, silent
from services.sources.source import is_safe_member

MANIFEST = "manifest.json"
PIECE = 2**24  # bytes that are read at once


class FileEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """What a folder holds; keys of `files` are paths below the folder, with forward slashes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    source: str | None = None
    files: dict[str, FileEntry]

    @property
    def revision(self) -> str:
        """Twelve hexadecimal digits that change whenever a file does."""
        lines = [f"{name}:{entry.sha256}" for name, entry in sorted(self.files.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def write_manifest(folder: Path, *, source: str | None = None, progress: Progress = silent) -> Manifest:
    """Hash every file of the folder and write its manifest.json, replacing an earlier one in one step.

    Raises SourceNotFound, or IntegrityError as `file_names` does.
    """
    if not folder.is_dir():
        raise SourceNotFound(f"{folder} is not a folder")
    names = file_names(folder)
    total = sum((folder / name).stat().st_size for name in names)
    files: dict[str, FileEntry] = {}
    done = 0
    for name in names:
        size = (folder / name).stat().st_size
        files[name] = FileEntry(sha256=sha256(folder / name), size=size)
        done += size
        progress("hashing", done, total)
    manifest = Manifest(source=source, files=files)
    partial = folder / f".{MANIFEST}.partial"
    partial.write_text(manifest.model_dump_json(indent=1))
    partial.replace(folder / MANIFEST)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest without checking its files. Raises ManifestMissing, or IntegrityError if malformed."""
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestMissing(folder) from None
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a manifest: {error.errors()[0]['msg']}") from error
    for name in manifest.files:
        if not is_safe_member(name):
            raise IntegrityError(f"{path} lists {name!r}, which is outside its folder")
    return manifest


def verify(folder: Path, *, progress: Progress = silent) -> Manifest:
    """Check that the folder holds exactly the manifest's files. Raises IntegrityError, which names the first fault."""
    manifest = read_manifest(folder)
    if extra := [name for name in file_names(folder) if name not in manifest.files]:
        raise IntegrityError(
            f"{folder / extra[0]} is not in the manifest; if it belongs there, run: castalia manifest {folder}"
        )
    total = sum(entry.size for entry in manifest.files.values())
    done = 0
    for name, entry in manifest.files.items():
        _check_file(folder / name, entry)
        done += entry.size
        progress("verifying", done, total)
    return manifest


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits. Lets other threads run, and waits for them once a piece."""
    digest, piece = hashlib.sha256(), memoryview(bytearray(min(path.stat().st_size, PIECE) or 1))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(piece):
            digest.update(piece[:size])
    return digest.hexdigest()


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise IntegrityError(f"{path} is listed in the manifest but missing")
    if (size := path.stat().st_size) != entry.size:
        raise FileChanged(path, what="size", expected=f"{entry.size} bytes", got=f"{size} bytes")
    if (got := sha256(path)) != entry.sha256:
        raise FileChanged(path, what="SHA-256", expected=entry.sha256, got=got)


def file_names(folder: Path) -> list[str]:
    """Every file below the folder but the manifest, sorted. Hidden names are left out: no loader reads them.

    Raises IntegrityError for a folder that is a symbolic link: what is behind it may change unseen.
    """
    names: list[str] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (link := Path(root) / name).is_symlink():
                raise IntegrityError(f"{link} is a symbolic link to a folder; put the folder itself there")
        base = Path(root).relative_to(folder)
        names += [(base / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(name for name in names if name != MANIFEST)
