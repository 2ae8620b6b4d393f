"""Packages from registries into the cache, and the data that is made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.sources.progress import silent
from services.training.collect import collect, preprocess
from services.training.errors import PackageChanged, PackageUnavailable, UnsafeArchive
from services.training.packages import EMOJI
from services.training.recipe import Package
from services.training.registries import configured
from tests.unit.training.registry import Registry, deb, put_debian, put_npm, put_pypi, serving, tarball, wheel
from tests.unit.training.tiny import TinyRecipe

Put = Callable[[Registry, bytes], Package]
SIX = {"package/six.txt": b"6"}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as registry:
        yield registry


def test_an_npm_tarball_is_unpacked_as_it_is_laid_out(tmp_path: Path, registry: Registry) -> None:
    recipe = TinyRecipe(packages=[put_npm(registry, tarball(SIX))])
    found = collect(recipe, tmp_path, silent, registry.registries)
    assert (found["dice"] / "package/six.txt").read_bytes() == b"6"


def test_a_wheel_is_found_by_its_file_name_in_the_index(tmp_path: Path, registry: Registry) -> None:
    recipe = TinyRecipe(packages=[put_pypi(registry, wheel({"dice/six.txt": b"6"}))])
    found = collect(recipe, tmp_path, silent, registry.registries)
    assert (found["Big_Dice"] / "dice/six.txt").read_bytes() == b"6"


def test_a_wheel_that_the_index_does_not_list_is_named(tmp_path: Path, registry: Registry) -> None:
    package = replace(put_pypi(registry, wheel(SIX)), file="big_dice-2.1-py3-none-any.whl")
    with pytest.raises(PackageUnavailable, match=r"/simple/big-dice/ does not list big_dice-2\.1"):
        collect(TinyRecipe(packages=[package]), tmp_path, silent, registry.registries)


def test_a_debian_package_gives_the_files_it_would_install(tmp_path: Path, registry: Registry) -> None:
    recipe = TinyRecipe(packages=[put_debian(registry, deb({"./usr/share/dice/six.txt": b"6"}))])
    found = collect(recipe, tmp_path, silent, registry.registries)
    assert (found["dice-data"] / "usr/share/dice/six.txt").read_bytes() == b"6"


def test_what_is_collected_is_not_asked_for_again(tmp_path: Path, registry: Registry) -> None:
    recipe = TinyRecipe(packages=[put_npm(registry, tarball(SIX))])
    for _ in range(2):
        collect(recipe, tmp_path, silent, registry.registries)
    assert registry.asked == ["/dice/-/dice-1.0.0.tgz"]


def test_another_file_than_the_named_one_is_refused_and_not_kept(tmp_path: Path, registry: Registry) -> None:
    package = replace(put_npm(registry, tarball(SIX)), sha256="0" * 64)
    with pytest.raises(PackageChanged, match=r"dice-1\.0\.0\.tgz is not the file .* expected SHA-256 0000"):
        collect(TinyRecipe(packages=[package]), tmp_path, silent, registry.registries)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_package_that_the_registry_lacks_is_named(tmp_path: Path, registry: Registry) -> None:
    package = replace(put_npm(registry, tarball(SIX)), file="dice-9.9.9.tgz")
    with pytest.raises(PackageUnavailable, match="404"):
        collect(TinyRecipe(packages=[package]), tmp_path, silent, registry.registries)


@pytest.mark.parametrize("put", [put_npm, put_pypi, put_debian])
def test_credentials_of_a_registry_are_never_shown(tmp_path: Path, registry: Registry, put: Put) -> None:
    package = replace(put(registry, b""), file="another-9.9.9.tgz")
    secret = Registry(registry.url.replace("//", "//ada:b%40d@"))
    with pytest.raises(PackageUnavailable) as caught:
        collect(TinyRecipe(packages=[package]), tmp_path, silent, secret.registries)
    assert registry.url in str(caught.value)
    assert "ada" not in str(caught.value)
    assert "b%40d" not in str(caught.value)


@pytest.mark.parametrize(
    ("put", "content"),
    [(put_npm, tarball({"../out.txt": b"6"})), (put_pypi, wheel({"../out.txt": b"6"}))],
    ids=["tar", "zip"],
)
def test_a_member_outside_of_its_folder_is_refused(
    tmp_path: Path, registry: Registry, put: Put, content: bytes
) -> None:
    with pytest.raises(UnsafeArchive, match=r"out\.txt"):
        collect(TinyRecipe(packages=[put(registry, content)]), tmp_path, silent, registry.registries)
    assert not list(tmp_path.rglob("out.txt"))


@pytest.mark.parametrize("put", [put_npm, put_pypi, put_debian])
def test_a_damaged_archive_is_named(tmp_path: Path, registry: Registry, put: Put) -> None:
    with pytest.raises(PackageUnavailable, match="is a damaged archive"):
        collect(TinyRecipe(packages=[put(registry, b"no archive at all")]), tmp_path, silent, registry.registries)


@dataclass(frozen=True)
class Counting(TinyRecipe):
    """Writes how many bytes it was given."""

    def preprocess(self, collected: Mapping[str, Path], folder: Path) -> None:
        (folder / "six.txt").write_bytes((collected["dice"] / "package/six.txt").read_bytes())


def test_data_is_made_once_for_each_content_of_packages_and_version(tmp_path: Path, registry: Registry) -> None:
    recipe = Counting(packages=[put_npm(registry, tarball(SIX))])
    first = preprocess(recipe, tmp_path, silent, registry.registries)
    assert preprocess(recipe, tmp_path, silent, registry.registries) == first
    assert (first / "six.txt").read_bytes() == b"6"
    assert preprocess(replace(recipe, version=2), tmp_path, silent, registry.registries) != first
    other = replace(recipe, packages=[put_npm(registry, tarball({"package/six.txt": b"VI"}))])
    assert (preprocess(other, tmp_path, silent, registry.registries) / "six.txt").read_bytes() == b"VI"


def test_registries_are_those_of_the_machines_tools(tmp_path: Path) -> None:
    (tmp_path / ".npmrc").write_text("fund=false\nregistry = https://npm.example/repository/\n")
    environ = {"PIP_INDEX_URL": "https://pypi.example/simple/", "CASTALIA_DEBIAN_MIRROR": "http://deb.example/debian"}
    found = configured(environ, home=tmp_path)
    assert found.npm == "https://npm.example/repository"
    assert (found.pypi, found.debian) == ("https://pypi.example/simple", "http://deb.example/debian")
    named = configured(environ | {"npm_config_registry": "https://other.example"}, home=tmp_path)
    assert named.npm == "https://other.example"


def test_packages_are_named_by_whole_sums() -> None:
    assert len(EMOJI.sha256) == 64
