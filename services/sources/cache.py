"""Owns folders that are made once: a lock, a partial folder beside the target, one rename. Never sees a source."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from services.sources.progress import Progress


def cache_name(text: str) -> str:
    """A readable file name, different for different texts."""
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", text.partition("://")[2] or text).strip("-.")[:80]
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def make_once(target: Path, make: Callable[[Path], Path], *, progress: Progress, resume: bool = False) -> Path:
    """Return `target`, making it first if it is not there.

    `make` gets an empty folder to work in and returns the folder in it that becomes the target by one rename: a target
    that exists is whole, whatever was interrupted. Of concurrent callers, in any process, one makes and the others
    wait. With `resume` the working folder outlives a failure, and the next try finds it as it was left.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f".{target.name}.lock"), progress):
        if target.is_dir():
            return target
        partial = target.with_name(f".{target.name}.partial")
        if not resume:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        try:
            make(partial).rename(target)
        except BaseException:
            if not resume:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(partial, ignore_errors=True)
    return target


@contextmanager
def _locked(path: Path, progress: Progress) -> Generator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("waiting for another process", 0, None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
