import hashlib
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.sources.material import checkpoint_files, write_files

MODELS = """
services:
  - name: chat
    family: transformer
    models:
      - {{id: one, source: "file://{0}/one"}}
      - {{id: two, source: "file://{0}/two"}}
"""


@pytest.fixture
def folders(run: Run, tmp_path: Path) -> Path:
    """Two models with manifests, and a models.yaml that lists them."""
    for name in ("one", "two"):
        write_files(tmp_path / name, checkpoint_files())
        assert run("manifest", str(tmp_path / name)).exit_code == 0
    (tmp_path / "models.yaml").write_text(MODELS.format(tmp_path))
    return tmp_path


def test_pull_takes_every_model_an_id_or_a_source(run: Run, folders: Path) -> None:
    for arguments, names in (((), {"one", "two"}), (("two",), {"two"}), ((f"file://{folders}/one",), {"file"})):
        result = run("pull", *arguments)
        assert result.exit_code == 0, result.output
        assert {line.split(":")[0] for line in result.stdout.splitlines() if "verified" in line} == names


def test_pull_refuses_a_flipped_bit(run: Run, folders: Path) -> None:
    weights = folders / "two" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = run("pull", "two")
    assert result.exit_code == 1
    assert str(weights) in result.stderr
    assert hashlib.sha256(content).hexdigest() in result.stderr


def test_pull_of_an_unknown_model_names_those_that_exist(run: Run, folders: Path) -> None:
    result = run("pull", "three")
    assert result.exit_code == 1
    assert "one, two" in result.stderr


def test_pull_of_what_is_no_source_says_what_would_be(run: Run) -> None:
    result = run("pull", "ftp://somewhere")
    assert result.exit_code == 1
    assert "hf://" in result.stderr


def test_manifest_refuses_a_folder_that_would_be_refused_at_load(run: Run, tmp_path: Path) -> None:
    write_files(tmp_path / "pickled", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    result = run("manifest", str(tmp_path / "pickled"))
    assert result.exit_code == 1
    assert "pickle" in result.stderr
    assert not (tmp_path / "pickled" / "manifest.json").exists()


def test_manifest_of_a_missing_folder_is_an_error(run: Run, tmp_path: Path) -> None:
    assert run("manifest", str(tmp_path / "absent")).exit_code == 1
