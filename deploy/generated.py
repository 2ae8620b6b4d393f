"""Owns what the command of every generated file does: write it, or with --check say whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def main(module: str, about: str | None, files: Callable[[], Mapping[Path, str]]) -> int:
    """The exit status. `module` is what `python -m` runs, `about` its help, `files` gives each file's text."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--check", action="store_true", help="only say whether the files are up to date")
    check = parser.parse_args().check
    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        if check:
            sys.stderr.write(f"{path} is out of date: run python -m {module}\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return int(check and bool(stale))
