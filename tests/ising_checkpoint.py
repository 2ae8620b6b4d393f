"""The folder of weights of the plug-in example, made by the example itself."""

from __future__ import annotations

import sys
from pathlib import Path

from services.sources import write_manifest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def make_ising(folder: Path) -> Path:
    """Write weights and manifest. Needs no fleet, and leaves `sys.path` as it is."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        from ising import write_weights
    finally:
        sys.path.remove(str(EXAMPLES))
    write_weights(folder)
    write_manifest(folder, source=f"file://{folder}")
    return folder
