import json
from pathlib import Path

import pytest

from services.sources.errors import FileChanged, IntegrityError, ManifestMissing
from services.sources.manifest import MANIFEST, read_manifest, verify, write_manifest
from tests.unit.sources.material import checkpoint_files, write_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, checkpoint_files() | {"tokenizer/vocab.txt": b"a\nb\n"})
    write_manifest(tmp_path)
    return tmp_path


def test_an_untouched_folder_passes_and_lists_files_in_subfolders(folder: Path) -> None:
    assert set(verify(folder).files) == {"config.json", "model.safetensors", "tokenizer/vocab.txt"}


def test_a_flipped_bit_is_refused_with_file_expected_and_got(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(FileChanged, match=r"model\.safetensors") as caught:
        verify(folder)
    assert caught.value.expected == read_manifest(folder).files["model.safetensors"].sha256
    assert caught.value.got in str(caught.value)
    assert caught.value.expected in str(caught.value)


def test_a_truncated_file_is_refused_by_its_size(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(FileChanged, match="size"):
        verify(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(IntegrityError, match=r"config\.json is listed in the manifest but missing"):
        verify(folder)


def test_a_file_that_nobody_listed_is_refused(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"adapter_model\.safetensors is not in the manifest"):
        verify(folder)


def test_hidden_files_are_no_part_of_a_model(folder: Path) -> None:
    write_files(folder, {".git/HEAD": b"x", ".DS_Store": b"x"})
    verify(folder)


def test_a_folder_without_a_manifest_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestMissing, match="castalia manifest"):
        verify(write_files(tmp_path, checkpoint_files()))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"files": {"a": {"sha256": "0", "size": 1}}}', '{"version": 2, "files": {}}']
)
def test_a_malformed_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(IntegrityError, match="is not a manifest"):
        verify(folder)


def test_a_manifest_that_lists_a_file_outside_its_folder_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps({"files": {"../secret": {"sha256": "0" * 64, "size": 1}}}))
    with pytest.raises(IntegrityError, match="outside its folder"):
        verify(folder)


def test_the_revision_follows_the_content_and_nothing_else(folder: Path) -> None:
    before = read_manifest(folder).revision
    assert write_manifest(folder, source="file:///elsewhere").revision == before
    (folder / "config.json").write_text("{}")
    assert write_manifest(folder).revision != before


def test_progress_reaches_the_total(folder: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    verify(folder, progress=lambda *step: seen.append(step))
    assert seen[-1][1] == seen[-1][2] == sum(entry.size for entry in read_manifest(folder).files.values())


def test_a_link_to_a_folder_is_refused_before_and_after_the_manifest_is_written(folder: Path, tmp_path: Path) -> None:
    """Weights behind it would be read, and never checked."""
    (folder / "unet").symlink_to(write_files(tmp_path / ".elsewhere", {"model.safetensors": b"x"}))
    with pytest.raises(IntegrityError, match="unet is a symbolic link"):
        verify(folder)
    with pytest.raises(IntegrityError, match="unet is a symbolic link"):
        write_manifest(folder)
