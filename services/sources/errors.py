"""Owns what can go wrong between a model's source and a folder that is safe to load.

SourceError
├── InvalidSource      the text is no source
├── SourceNotFound     nothing is there
├── FetchFailed        the network, the registry or the disk failed
├── UnsafeSource       pickled weights, remote code, a path that escapes, a revision that moves
├── ConversionFailed   the file cannot become safetensors
└── IntegrityError     the bytes are not those of the manifest
    ├── ManifestMissing
    └── FileChanged
"""

from __future__ import annotations

from pathlib import Path


class SourceError(Exception):
    """Base of every error of a source. The message may hold local paths: it is for operators, not for HTTP clients."""


class InvalidSource(SourceError):
    """The text is no source: it names the form that was expected and what was got."""

    def __init__(self, source: str, expected: str) -> None:
        super().__init__(f"{source!r} is not a valid source: expected {expected}")


class SourceNotFound(SourceError):
    """The package, file, repository, revision or folder that the source names does not exist."""


class FetchFailed(SourceError):
    """Fetching began and did not end well; another try may succeed."""


class UnsafeSource(SourceError):
    """Loading this could run code, write outside its folder, or change from one day to the next."""


class ConversionFailed(SourceError):
    """A GGUF file could not be converted to safetensors."""


class IntegrityError(SourceError):
    """A folder does not hold exactly what its manifest lists."""


class ManifestMissing(IntegrityError):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} has no manifest.json, so its weights cannot be verified;"
            f" if you trust what is there now, run: castalia manifest {folder}"
        )


class FileChanged(IntegrityError):
    """One file differs from its manifest. `expected` and `got` are sizes in bytes or SHA-256 sums."""

    def __init__(self, file: Path, *, what: str, expected: str, got: str) -> None:
        super().__init__(
            f"{file} is not the file that its manifest lists: expected {what} {expected}, got {got};"
            " delete its folder and fetch it again"
        )
        self.file, self.expected, self.got = file, expected, got
