"""Owns unpacking what registries give: tar, zip (wheels), and Debian's ar. Never writes outside its folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from services.sources.source import is_safe_member
from services.training.errors import PackageUnavailable, UnsafeArchive

_AR_MAGIC = b"!<arch>\n"


def unpack(archive: Path, into: Path) -> Path:
    """Unpack an archive into a folder, as it is laid out. Raises UnsafeArchive, or PackageUnavailable if damaged."""
    into.mkdir(parents=True, exist_ok=True)
    try:
        match archive.suffix:
            case ".whl" | ".zip":
                _unzip(archive, into)
            case ".deb":
                _untar(archive, io.BytesIO(_deb_data(archive)), into)
            case _:
                _untar(archive, None, into)
    except (tarfile.FilterError, tarfile.LinkOutsideDestinationError) as error:
        raise UnsafeArchive(archive.name, error.tarinfo.name) from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise PackageUnavailable(f"{archive.name} is a damaged archive: {error}") from error
    return into


def _untar(archive: Path, file: io.BytesIO | None, into: Path) -> None:
    with tarfile.open(None if file else archive, fileobj=file) as tar:
        tar.extractall(into, filter="data")  # refuses devices, links and names that leave the folder


def _unzip(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            if not is_safe_member(name.rstrip("/")):
                raise UnsafeArchive(archive.name, name)
        packed.extractall(into)  # noqa: S202 - every name is checked above


def _deb_data(archive: Path) -> bytes:
    """The member data.tar.* of a .deb: an ar archive of 60-byte headers, each member on an even offset (deb(5))."""
    content = archive.read_bytes()
    if not content.startswith(_AR_MAGIC):
        raise ValueError("no ar archive")
    offset = len(_AR_MAGIC)
    while offset + 60 <= len(content):
        header = content[offset : offset + 60]
        name, size = header[:16].decode("ascii").rstrip(" /"), int(header[48:58])
        if name.startswith("data.tar"):
            return content[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2
    raise ValueError("no data.tar in it")
