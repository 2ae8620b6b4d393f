"""What holds of the image by its recipe alone: pinned, unprivileged, without compilers, of the versions of the tree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.images.containerfile import CONTAINERFILE, ROOT, Recipe, read

CHART = ROOT / "deploy" / "chart" / "castalia"
USER = "10001"
COMPILERS = {"build-essential", "clang", "cmake", "g++", "gcc", "gfortran", "make", "nvidia-cuda-toolkit", "rustc"}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read()


def test_every_stage_stands_on_one_base_that_is_pinned_by_digest(recipe: Recipe) -> None:
    names = {stage.name for stage in recipe.stages[:-1]}
    assert {stage.base for stage in recipe.stages} - names == {"${BASE}"}
    assert re.fullmatch(r"[a-z.]+/[a-z0-9/]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", recipe.arguments["BASE"])
    assert ":latest" not in CONTAINERFILE.read_text()


def test_the_image_runs_as_the_user_that_the_chart_names(recipe: Recipe) -> None:
    assert recipe.image.all("USER") == [f"{USER}:{USER}"]
    last = [each.name for each in recipe.image.instructions if each.name in ("USER", "RUN", "COPY")][-1]
    assert last == "USER", "what comes after it would run unprivileged, or belongs before it"
    assert f'"castalia.podSecurity" {USER}' in (CHART / "templates" / "_pod.tpl").read_text()


def test_nothing_is_downloaded_but_by_package_managers(recipe: Recipe) -> None:
    assert [each.text for each in recipe.instructions if each.name == "ADD"] == []
    fetched = re.compile(r"\b(curl|wget|git clone)\s+\S*(https?:|-)")
    assert [each.text for each in recipe.instructions if each.name == "RUN" and fetched.search(each.text)] == []


def test_every_package_comes_by_hash_but_torch_which_comes_by_version(recipe: Recipe) -> None:
    dependencies = recipe.stages[0]
    commands = [part for run in dependencies.all("RUN") for part in run.split("&&") if "pip install" in part]
    by_hash = [command for command in commands if "--require-hashes" in command and "--no-deps" in command]
    assert len(by_hash) == 2
    (torch,) = set(commands) - set(by_hash)
    assert torch.split()[-1] == '"torch==$TORCH_VERSION"'
    assert "PIP_ONLY_BINARY=:all:" in dependencies.all("ENV")[0]
    assert "UV_NO_BUILD=1" in dependencies.all("ENV")[0]
    others = [part for stage in recipe.stages[1:] for run in stage.all("RUN") for part in run.split("&&")]
    assert [part for part in others if "pip install" in part and "--no-deps --no-index" not in part] == []


def test_no_secret_is_an_argument_or_in_the_environment(recipe: Recipe) -> None:
    named = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
    assert [each for each in recipe.instructions if each.name in ("ARG", "ENV") and named.search(each.text)] == []


def test_the_image_installs_wget_and_no_compiler(recipe: Recipe) -> None:
    (installed,) = [run for run in recipe.image.all("RUN") if "apt-get install" in run]
    words = installed.split("apt-get install", 1)[1].split("&&", 1)[0].split()
    packages = {word for word in words if not word.startswith("-")}
    assert packages == {"libxext6", "libxrender1", "wget", "${PACKAGES}"}
    assert "ARG PACKAGES=" in [f"ARG {text}" for text in recipe.image.all("ARG")]
    assert not packages & COMPILERS


def test_what_says_where_the_image_comes_from_is_complete(recipe: Recipe) -> None:
    (labels,) = recipe.image.all("LABEL")
    named = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", labels))
    assert named >= {"title", "description", "licenses", "version", "revision", "source", "base.name"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f'image.licenses="{project["license"]}"' in labels


def test_the_versions_are_those_of_the_lock_the_makefile_and_the_chart(recipe: Recipe) -> None:
    makefile = (ROOT / "Makefile").read_text()
    torch = re.search(r"^TORCH_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert torch is not None
    assert f"TORCH_VERSION={torch[1]}" in recipe.stages[0].all("ARG")
    lock = (ROOT / "requirements" / "base.txt").read_text()
    assert f"\nray=={(CHART / 'ray-version.txt').read_text().strip()} " in lock
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]
    oldest = tuple(map(int, project["requires-python"].removeprefix(">=").split(".")))
    base = re.search(r"/python:(\d+)\.(\d+)-", recipe.arguments["BASE"])
    assert base is not None
    assert tuple(map(int, base.groups())) >= oldest


def test_a_build_sees_only_what_is_allowed_by_name(recipe: Recipe) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    project = {"LICENSE", "README.md", "models.yaml", "pyproject.toml", "services", "shared", "loadtests"}
    assert allowed == project | {"deploy", "deploy/images", "requirements"}
    assert rules.index("deploy/*") < rules.index("!deploy/images")
    copied = [word for text in recipe.stages[-1].all("COPY") if "--from" not in text for word in text.split()[:-1]]
    sources = [word for word in copied if not word.startswith("--")]
    assert sources
    assert [word for word in sources if not any(word == each or word.startswith(f"{each}/") for each in allowed)] == []


@pytest.mark.parametrize(
    ("variables", "expected", "not_expected"),
    [
        (["VARIANT=cuda"], ["--build-arg VARIANT=cuda", "castalia:0.1.0-cuda"], ["push", "TORCH_INDEX"]),
        (["TAG=x", "PUSH=1", "IMAGE=r.example/c"], ["--tag r.example/c:x ", "podman push r.example/c:x"], ["cuda"]),
    ],
    ids=["cuda", "pushed"],
)
def test_make_image_builds_the_variant_and_pushes_only_when_asked(
    variables: list[str], expected: list[str], not_expected: list[str]
) -> None:
    command = ["make", "--dry-run", "image", "ENGINE=podman", *variables]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [words for words in expected if words not in shown] == []
    assert [words for words in not_expected if words in shown] == []


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint has no wheel for this platform")
    done = subprocess.run([hadolint, str(CONTAINERFILE)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
