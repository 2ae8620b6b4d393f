from __future__ import annotations

import re
import shlex
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


def test_every_pytest_command_in_readme_selects_tests() -> None:
    commands = re.findall(r"`\.venv/bin/pytest ([^`]+)`", (ROOT / "README.md").read_text())
    assert len(commands) > 10
    for command in commands:
        paths, _, expression = command.removeprefix("-m slow ").partition(" -k ")
        names = "\n".join(name for path in paths.split() for name in _tests_below(ROOT / path))
        assert names, command
        words = set(shlex.split(expression)[0].split() if expression else ()) - {"and", "or", "not"}
        assert all(word in names for word in words), command


def _tests_below(path: Path) -> list[str]:
    files = path.rglob("*.py") if path.is_dir() else [path]
    return [name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())]
