from pathlib import Path

import pytest

from services.sources.cache import cache_name, make_once
from services.sources.progress import silent


def made(content: str, log: list[str]) -> object:
    def make(work: Path) -> Path:
        log.append(content)
        (work / "folder").mkdir()
        (work / "folder" / "file").write_text(content)
        return work / "folder"

    return make


def test_a_folder_is_made_once_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    log: list[str] = []
    target = tmp_path / "deep" / "target"
    for content in ("first", "second"):
        make_once(target, made(content, log), progress=silent)
    assert log == ["first"]
    assert (target / "file").read_text() == "first"
    assert {path.name for path in target.parent.iterdir()} == {"target", ".target.lock"}


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_making_leaves_no_target_and_the_next_starts_clean(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    def stopped(work: Path) -> Path:
        (work / "half").write_text("made")
        raise interruption

    with pytest.raises(interruption):
        make_once(tmp_path / "target", stopped, progress=silent)
    assert {path.name for path in tmp_path.iterdir()} == {".target.lock"}
    make_once(tmp_path / "target", made("whole", []), progress=silent)
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["file"]


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / ".target.partial" / "folder"
    left.mkdir(parents=True)
    make_once(tmp_path / "target", made("whole", []), progress=silent)
    assert not left.exists()


def test_resuming_finds_what_the_earlier_try_left(tmp_path: Path) -> None:
    def first(work: Path) -> Path:
        (work / "half").write_text("kept")
        raise OSError

    def second(work: Path) -> Path:
        assert (work / "half").read_text() == "kept"
        (work / "folder").mkdir()
        return work / "folder"

    with pytest.raises(OSError):
        make_once(tmp_path / "target", first, progress=silent, resume=True)
    make_once(tmp_path / "target", second, progress=silent, resume=True)
    assert not (tmp_path / ".target.partial").exists()


def test_different_sources_never_share_a_folder() -> None:
    assert cache_name("pypi://a==1/b/c") != cache_name("pypi://a==1/b-c")
    assert "/" not in cache_name("pypi://a==1/b/../c")
