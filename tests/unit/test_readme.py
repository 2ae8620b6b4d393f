from __future__ import annotations

import re
from pathlib import Path

from shared.config.settings import Settings

ROOT = Path(__file__).parents[2]


def test_readme_documents_every_setting_with_its_description() -> None:
    readme = (ROOT / "README.md").read_text()
    for name, field in Settings.model_fields.items():
        row = re.search(rf"^\| `CASTALIA_{name.upper()}` \|.*$", readme, re.MULTILINE)
        assert row is not None, f"README.md lacks CASTALIA_{name.upper()}"
        assert field.description is not None
        assert field.description in row[0]


def test_readme_and_makefile_name_the_same_verbs() -> None:
    described = set(re.findall(r"^\| `make ([a-z-]+)`", (ROOT / "README.md").read_text(), re.MULTILINE))
    verbs = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert described == verbs - {"help"}
