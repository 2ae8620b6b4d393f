"""Owns what the command of every generated file does: write it, or with --check say whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def main(module: str, about: str | None, path: Path, text: Callable[[], str]) -> int:
    """The exit status. `module` is what `python -m` runs, `about` its help."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--check", action="store_true", help="only say whether the file is up to date")
    check = parser.parse_args().check
    wanted = text()
    if not check:
        path.write_text(wanted)
    elif not path.exists() or path.read_text() != wanted:
        sys.stderr.write(f"{path} is out of date: run python -m {module}\n")
        return 1
    return 0
