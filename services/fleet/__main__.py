"""Owns `python -m services.fleet`: the process that is a fleet. `castalia up` starts it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from services.fleet.process import run
from services.logs import configure
from shared.config.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.fleet", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="path of a models.yaml")
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    settings = Settings()
    configure(settings.log_level)
    return run(arguments.models, name=arguments.name, settings=settings)


if __name__ == "__main__":
    sys.exit(main())
