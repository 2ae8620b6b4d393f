"""What serves every family alike names none: a new family must change nothing there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.families import FAMILIES

ROOT = Path(__file__).parents[2]
SHARED_BY_ALL = (
    "services/engine/*.py",
    "services/gateway/*.py",
    "services/replica.py",
    "services/model_*.py",
    "services/row_events.py",
    "services/replica_report.py",
    "shared/schemas/*.py",
)
FILES = sorted(path.relative_to(ROOT) for pattern in SHARED_BY_ALL for path in ROOT.glob(pattern))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_family_is_named_outside_its_own_folder(path: Path) -> None:
    words = re.findall(rf"(?<![A-Za-z_])({'|'.join(FAMILIES)})(?![A-Za-z_])", (ROOT / path).read_text(), re.IGNORECASE)
    assert not words


def test_every_pattern_of_files_finds_some() -> None:
    assert all(list(ROOT.glob(pattern)) for pattern in SHARED_BY_ALL)
